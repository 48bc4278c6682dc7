"""The election as pure values and state machines.

Nothing in here does I/O, reads a clock, draws a random number, or knows asyncio or threads: the
time goes in, and effects and the time of the next wake-up come out. So the same code runs under
the production driver, under the simulator and in a golden transcript.

`timing`     which settings are safe, and why the others are refused
`records`    what a store says of an election at one version
`events`     what goes into the machines, and what comes out
`table`      the law: which event leads from which state to which
`elector`    one candidate's way to a term and out of it
`keepalive`  one lease's renewals: when to try, when to give up
`fence`      how long a term is trusted
"""
