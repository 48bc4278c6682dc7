"""Members of locks of other libraries, written in Python. See `tests.partners.member`."""
