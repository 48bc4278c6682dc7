"""Do the marks say what they are to say: the singleton's, the mode, the waivers?"""

from __future__ import annotations

from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import mapping
from incumbent.manifests import marks
from incumbent.manifests.modes import Mode


@rule(
    "INC095",
    Severity.HIGH,
    "the mark is where the guard cannot see it",
    why=f"""A request to scale carries nothing of the workload but its selector.
    `{marks.SINGLETON}` among the labels alone is not seen by the guard, and `kubectl scale`
    passes.""",
    fix="""The label in `spec.selector.matchLabels` and in the template too. A selector cannot
    be changed: a workload that exists has to be made anew.""",
)
def unseen_mark(case: Case) -> Iterator[Sighting]:
    """Find marked workloads whose selector has no mark."""
    for workload in case.inventory.long_running:
        marked = marks.matches(workload.manifest.labels) or marks.matches(workload.pod_labels)
        chosen = mapping(workload.selector.get("matchLabels"))
        if marked and chosen.get(marks.SINGLETON) != "true":
            text = f"{workload} is marked, and its selector is not"
            yield Sighting(workload.manifest, ("spec", "selector"), text)


@rule(
    "INC096",
    Severity.HIGH,
    "a mode that does not exist",
    why="""It is read by nobody. The workload counts as one of which nothing is said, and most rules
    are silent about such a one: nothing of what its author wanted has been judged.""",
    fix=f"One of {', '.join(Mode)}.",
)
def unknown_mode(case: Case) -> Iterator[Sighting]:
    """Find labels with another word."""
    for workload in case.inventory.workloads:
        written = {**workload.pod_labels, **workload.manifest.labels}.get(marks.MODE)
        if written is not None and written not in list(Mode):
            text = f"{workload} has {marks.MODE}={written}"
            yield Sighting(workload.manifest, ("metadata", "labels", marks.MODE), text)


@rule(
    "INC097",
    Severity.MEDIUM,
    "the marks contradict each other",
    why=f"""`{marks.SINGLETON}` says that there is never more than one replica; an elected mode
    needs several. The guard would keep the standbys from being started.""",
    fix="Take the mark away where replicas elect one of them.",
)
def contradiction(case: Case) -> Iterator[Sighting]:
    """Find workloads that are marked as alone and are elected."""
    for workload, intent in case.elected:
        if marks.matches({**workload.pod_labels, **workload.manifest.labels}):
            text = f"{workload} is marked as alone and is {intent.said}"
            yield Sighting(workload.manifest, ("metadata", "labels", marks.SINGLETON), text)


@rule(
    "INC098",
    Severity.MEDIUM,
    "a waiver without a reason",
    why="Nobody can tell later whether it still holds. It waives nothing.",
    fix=f"`{marks.WAIVE}INC031: <the reason>`.",
)
def no_reason(case: Case) -> Iterator[Sighting]:
    """Find waivers that are empty."""
    for manifest in case.inventory.manifests:
        for key, text in manifest.annotations.items():
            if key.startswith(marks.WAIVE) and not text.strip():
                rule_id = key.removeprefix(marks.WAIVE)
                path = ("metadata", "annotations", key)
                yield Sighting(manifest, path, f"{manifest} waives {rule_id} and does not say why")


@rule(
    "INC099",
    Severity.LOW,
    "a waiver of a rule that does not exist",
    why="A mistyped id waives nothing, and hides that it does not.",
    fix="An id of this list.",
)
def no_such_rule(case: Case) -> Iterator[Sighting]:
    """Find waivers of other ids."""
    from incumbent.audit.rules import RULES_BY_ID

    for manifest in case.inventory.manifests:
        for key in manifest.annotations:
            rule_id = key.removeprefix(marks.WAIVE)
            if key.startswith(marks.WAIVE) and rule_id not in RULES_BY_ID:
                path = ("metadata", "annotations", key)
                yield Sighting(manifest, path, f"{manifest} waives {rule_id}, which is no rule")
