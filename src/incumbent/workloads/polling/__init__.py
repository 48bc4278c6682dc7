"""Pollers: work that looks again and again whether there is something, in exactly one thread.

- `poll`: the user's own function, with a checkpoint that no former holder can move back;
- `directory`: files that appear in a folder, claimed by a rename, one after the other;
- `rows`: rows of a database, by a cursor or by a claim, in the transaction of their effect.

What they share: how long to wait (`pace`), how the user's function is called and what its
exceptions do (`calling`), and what blocks without belonging to the user (`apart`).
"""

from __future__ import annotations
