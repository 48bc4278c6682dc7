"""Drains that ask first: the owner of an only replica consents, an active candidate hands over.

    review     one eviction as the API server asks about it, and the answer that it understands
    pods       what a Pod says of itself, and who else is of its application
    windows    when nobody need be asked
    decision   may this Pod be evicted now? Pure; the rules and their reasons
    sight      what a decision needs to see of the cluster
    desk       from a question to an answer: see, decide, write it down, and only then say it
    trail      what is left of each decision: a line, and an Event
    server     the HTTPS server around it, and certificates that are replaced while it runs
    objects    the Kubernetes objects that run it; `certificates` that it is trusted by
    asking     what an owner sees, allows and takes back
    handover   an active candidate that steps down before its Pod has to go

The webhook is about evictions, which is what a drain sends. `kubectl delete pod` is none: that is
for RBAC and for the guard (`manifests.guard`).
"""
