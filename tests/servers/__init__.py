"""Real servers for the tests: built from source once, started per run, stopped with the run.

A leader election library is only as good as its behaviour against the server that arbitrates, so
the tests talk to real ones rather than to imitations. `build` makes the binaries, `process` runs
them, `kubernetes` assembles an API server, `proxy` breaks the network in front of one, and
`fixtures` offers all of it to pytest. A server that cannot be had fails the run; nothing here
skips a test.
"""
