"""Members of Python libraries, each a program; see `tests.partners.member` for its lines."""
