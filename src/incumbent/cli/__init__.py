"""The `incumbent` command: to look at elections, to hand them over, and to wrap what is no Python.

`__main__` is the entry point; `run` and `runner` are the wrapper, which must start fast and stay
small. `app` has the table of all commands; each has a module of its own that is imported when it is
called. `codes` has the exit codes, in one place for all of them.
"""
