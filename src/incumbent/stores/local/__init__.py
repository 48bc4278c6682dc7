"""What stores have in common that keep their records in files of one host.

`store`      the six verbs and everything around them, over any records
`locks`      evidence of death: a kernel lock that the holder's whole process tree inherits
`inotify`    how a standby is woken without polling
`filesystem` where such locks mean something, where they do not, and what went wrong
`worker`     the thread in which file systems may block
`machine`    what of all this the simulator replaces
"""
