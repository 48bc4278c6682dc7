"""What carries an election out: the keeper's thread, the driver, the term, the kernel's timer.

`keeper`    one private thread with an event loop per process; users' code never runs there
`driver`    one candidate: performs the elector's effects and reports back
`lease`     renews one lease, for one election or for many
`watchdog`  which deadline the kernel's timer must have now
`deadman`   the kernel's timer itself
`contain`   a process tree that can be ended, all of it, and whose end can be confirmed
`term`      what users hold in their hands while they lead
"""
