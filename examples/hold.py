"""A block that only one process runs at a time."""

import incumbent

with incumbent.Election("billing").hold() as term:
    term.check()  # raises LeadershipLost when the term cannot be trusted any more
    print("settling with fencing token", term.token)
