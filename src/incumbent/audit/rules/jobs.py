"""Can two runs of one task overlap, or none happen?"""

from __future__ import annotations

from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.edits import Set
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import Path, Workload, at, mapping

_CRON = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"
_JOB = "https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-replacement-policy"


@rule(
    "INC075",
    Severity.CRITICAL,
    "a run may begin while the last one goes on",
    why="""`Allow` is the default: a run that takes longer than usual, or hangs, gets company at
    the next tick. And a CronJob makes about one Job for each tick; sometimes it is two, or
    none.""",
    fix="""`concurrencyPolicy: Forbid`, a deadline, and work that may be done twice; a lock
    around it (`incumbent run NAME --no-wait -- CMD`) where it must not.""",
    links=(f"{_CRON}#concurrency-policy",),
)
def concurrent(case: Case) -> Iterator[Sighting]:
    """Find CronJobs whose runs may overlap."""
    for workload in case.inventory.workloads:
        if workload.kind != "CronJob":
            continue
        policy = workload.spec.get("concurrencyPolicy") or "Allow"
        if policy == "Allow":
            path = ("spec", "concurrencyPolicy")
            text = f"{workload} allows runs at the same time"
            severity = _weight(case, workload, Severity.CRITICAL, Severity.MEDIUM)
            yield Sighting(workload.manifest, path, text, severity, (Set(path, "Forbid"),))


@rule(
    "INC076",
    Severity.MEDIUM,
    "a missed run is started however late it is",
    why="""A run that was missed (its predecessor was still going, or the controller was down)
    is made up for whenever that is possible again, also just before the next one, or when its
    hour is long over. Older controllers stopped for good after a hundred missed ticks; those of
    today warn.""",
    fix="`startingDeadlineSeconds`: how late a run may still begin; at least 10.",
    links=(f"{_CRON}#starting-deadline",),
)
def no_deadline(case: Case) -> Iterator[Sighting]:
    """Find CronJobs without a deadline."""
    for workload in case.inventory.workloads:
        if workload.kind == "CronJob" and workload.spec.get("startingDeadlineSeconds") is None:
            path = ("spec", "startingDeadlineSeconds")
            text = f"{workload} has no starting deadline"
            yield Sighting(workload.manifest, path, text, edits=(Set(path, 200),))


@rule(
    "INC077",
    Severity.CRITICAL,
    "a Job replaces its Pod before that has ended",
    why="""A Pod that begins to end is replaced at once; the two run side by side through the
    grace period, or for as long as a lost node is cut off.""",
    fix="`podReplacementPolicy: Failed`, which waits until the old Pod has ended.",
    links=(_JOB,),
)
def replaced_early(case: Case) -> Iterator[Sighting]:
    """Find Jobs of one Pod that do not wait for its end."""
    for workload in case.inventory.workloads:
        path: Path
        if workload.kind == "Job":
            path = ("spec",)
        elif workload.kind == "CronJob":
            path = ("spec", "jobTemplate", "spec")
        else:
            continue
        job = mapping(workload.manifest.at(*path))
        if job.get("parallelism") not in (None, 1) or job.get("podFailurePolicy"):
            continue
        if at(job, "podReplacementPolicy") != "Failed":
            where = (*path, "podReplacementPolicy")
            text = f"{workload} may run twice while one of its Pods ends"
            severity = _weight(case, workload, Severity.CRITICAL, Severity.MEDIUM)
            yield Sighting(workload.manifest, where, text, severity, (Set(where, "Failed"),))


def _weight(case: Case, workload: Workload, stated: Severity, else_: Severity) -> Severity:
    """Return how bad it is: two runs are forbidden only where somebody says so."""
    return stated if case.intent(workload).mode is not None else else_
