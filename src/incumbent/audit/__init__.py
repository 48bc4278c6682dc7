"""`incumbent audit`: what in a set of Kubernetes objects could make two of a singleton, or none.

Who lints one object at a time asks for more replicas and for a rolling update; both break a
singleton. Here a *set* is read and related first, the intent of each workload is read or inferred,
and the rules judge that.

    source      files, folders, streams: objects, with the lines that they stand on
    selectors  objects    labels; one manifest; one workload
    inventory   the set, and what in it belongs to what
    electors    what a Pod template says of a leader election
    intent      which mode a workload is meant to run in, and who says so
    finding     a rule, a finding, and how bad it is
    case        what a rule is given
    rules/      the rules, a module for each question
    waivers     what somebody has looked at and accepted, with the reason
    edits  fix  the repairs that need no thought, made in the text
    live        the objects of a running cluster
    report/     text, JSON, SARIF
"""
