"""Members that are written in Python, each with the library whose lock it holds, and none of ours.

They are run as `python -m tests.partners.python.NAME`; see `tests.partners.member` for their lines.
"""
