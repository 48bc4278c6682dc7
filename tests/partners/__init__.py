"""Members of other libraries beside ours, on one lock: each a real program on a real server.

- `member` runs a program, theirs or ours, that says in JSON lines what happens to it;
- `ours` is our program;
- `passing` has the four dialogues that every pair has to play: who holds, who waits, who is next
  (`make test` plays two of them, and `make faults` all);
- the programs of theirs are in folders beside it (`python`, `java`);
- `test_*` has one module per store.

`python -m tests.partners [WORD...]` plays the dialogues whose test's name has every WORD in it, and
prints what both sides said.
"""
