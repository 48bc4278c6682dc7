"""Several singletons, spread over the replicas: no replica holds more than its share.

    incumbent.Spread("shards", names, work).run()     # on every replica

Who holds is decided by the elections alone, and each of them as it is without this package. Here it
is decided who *asks* for one, and how long somebody waits before it reaches for one that is vacant.
A mistake in here costs a needless handover or leaves one undone, and can make no second holder.

Theory
------
**There is no list of replicas.** Every replica stands by in every election of the group, as it
would anyway, and so sees who holds each. What nobody can see is a replica that holds nothing. It
need not be seen: whoever has too few *asks* for one, and it knows of itself. So nothing is pushed
to anybody, nothing is registered, no share is computed from a number of members that may be
wrong a moment later, and a replica that died is forgotten because its elections have other
holders. A replica asks whoever has the most, if that is at least two more than it has itself, to
hand over to it by name: a request to step down, which every record has room for (`balance`).

**One at a time.** Two that ask at once may move more than was needed. So who asks has been elected
first, in the election of the group's own name: it is contended for only by who wants to ask, held
for one handover, and given back. In a group that is even nobody contends, and no request is made
that the elections would not make. A replica that dies while it has the turn delays the evening out
by a TTL, and no election.

**The least loaded goes first**, because it waits the least before it contends; with that rule the
moves are as few as can be. The others wait longer, and on for as long as they see that something
moves and somebody has less; not for ever, since that one may not want more. Whoever has nothing is
not seen, so somebody else may overtake it: that costs a move. After the turn was won, what the one
before did is waited for (`SETTLE_S`): its moves were confirmed before it gave the turn back, and
notifications of different records may overtake one another. What is still unheard of then costs at
most a move that was not needed, for a request names the term that it is about.

**A vacancy waits for nobody.** Whatever has no holder is taken by whoever comes first. It is held
back by a quarter of a second at most, in which the less loaded come first, and each in the order of
the priorities (`gate`). What was handed over to somebody by name is left to them by the elections
themselves, for three seconds at most, should they die in that moment.

Warnings
--------
* `at_most` is a limit of one replica, and the only thing here that can leave an election without a
  holder: if all are full.
* All loads are equal. An election that has ten times the work counts as one.
* What cannot say who holds (Dapr), or to whom to hand over (a queue of another library), cannot be
  spread.
"""
