"""`?evidence=1`: a standby takes over at once when the kubelet has seen the holder's container end.

What proves a death
-------------------
The kubelet learns from the container runtime, which has waited for the container's first process.
When that one ends, the kernel kills every other process of its PID namespace before anybody can
reap it. So `terminated` for a container means that everything in it is dead.

Which container that is, is the hard half. A name says nothing: the next instance in the same Pod
has it too, and a status may come late. So **the holder writes its candidacy into its container's
termination log before it takes**: what all nonces of its terms begin with, which is random for each
process. The kubelet reports that file, which it makes anew for each instance, as the `message` of
`terminated`. A message with our line is about the very container in which the very process ran, in
`state` or, if that Pod has gone on with a new instance, in `lastState`.

Rules
-----
1. Evidence is: the UID of the Pod as the identity names it, `terminated` in the status of a
   container, and in its message the whole line that its holder wrote.
2. **The reason is one that follows from a wait**: `Completed`, `Error`, `OOMKilled`. A kubelet that
   does not find a container says `ContainerStatusUnknown`, and a runtime that has lost one says
   `Unknown`; both mean that nobody knows. What is not on the list is silence. So is every exit
   code but 0 to 254. containerd reports 255, as an `Error`, of a container whose parent it has
   lost: it has tried to kill it by then, and has not waited for its end (tried:
   `tests/cluster/live/silence.py`). A process that ends with 255 by itself is taken for one of
   those, and waited out. No wait for a process gives a negative code, a greater one, or none.
3. **The container must be a PID namespace of its own**: with `hostPID` or `shareProcessNamespace`
   the end of its first process ends nobody else. Of another `runtimeClassName` we know nothing.
4. **The message is the file's and not the log's**: with `FallbackToLogsOnError` it may be what
   somebody printed.
5. Everything else is silence and the TTL is waited out: the Pod object gone, its phase, a taint, a
   node gone, a deletion by force. Nobody but the kubelet of that node writes a container's status.
6. Who did not write a line gives no evidence, and nothing here keeps anybody from holding.

Warning: work that lives on outside of the container (another container of the Pod, a process that
a socket of the runtime started, a job that was submitted) is not covered. Do not ask for it then.
What was sent before the death may still arrive: only a fence refuses that.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Holding, Snapshot
from incumbent.errors import StoreError
from incumbent.stores.api import Finding, Sink
from incumbent.stores.kubernetes.api import Change, Expired, Kind, NotFound
from incumbent.stores.kubernetes.patience import SLACK_S, WATCH_S, pause_after_s
from incumbent.stores.kubernetes.pods import PodWatch, pod_in
from incumbent.stores.kubernetes.wire import PREFIX, Object

__all__ = ["TERMINATION_LOG", "WHY", "Deaths", "Log", "TerminationLog", "line_of", "proof_of_death"]

TERMINATION_LOG = "/dev/termination-log"
"""Kubernetes' own `terminationMessagePath`."""
WAITED_FOR = frozenset({"Completed", "Error", "OOMKilled"})
ENDED_WITH = range(255)
WHY = "the kubelet has seen the end of the very container that the holder ran in"

_log = logging.getLogger("incumbent.stores.kubernetes")


def candidacy_of(term: str) -> str:
    """Return what all terms of the same process begin with; a whole term, if it has no number."""
    return term.rpartition(".")[0] or term


def line_of(candidacy: str) -> str:
    """Return the line that a candidate writes into its container's termination log."""
    return f"{PREFIX}candidate {candidacy}"


def proof_of_death(pod: Object, candidacy: str) -> str:
    """Return what in a Pod proves that the process of this candidacy is dead, or "".

    Args:
        pod: as the API server has it.
        candidacy: of a holder; it begins with its identity.
    """
    name, uid = pod_in(candidacy.partition("/")[0])
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if not uid or (metadata.get("name"), metadata.get("uid")) != (name, uid):
        return ""
    if spec.get("hostPID") or spec.get("shareProcessNamespace") or spec.get("runtimeClassName"):
        return ""
    status = pod.get("status") or {}
    for kind, statuses in (
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
    ):
        policies = {
            each["name"]: each.get("terminationMessagePolicy", "File")
            for each in spec.get(kind) or ()
        }
        for each in status.get(statuses) or ():
            if policies.get(each.get("name")) == "File" and _ended(each, candidacy):
                return f"{WHY}: {each['name']!r} of Pod {name!r}"
    return ""


def _ended(container: Object, candidacy: str) -> bool:
    for state in ("state", "lastState"):
        ended = (container.get(state) or {}).get("terminated")
        if not ended or ended.get("reason") not in WAITED_FOR or not _waited_for(ended):
            continue
        if line_of(candidacy) in str(ended.get("message", "")).splitlines():
            return True
    return False


def _waited_for(ended: Object) -> bool:
    """Tell whether the exit code is one that a wait for a process gives."""
    code = ended.get("exitCode")
    return isinstance(code, int) and not isinstance(code, bool) and code in ENDED_WITH


@dataclass(slots=True)
class _Watched:
    """A holder whose Pod is watched."""

    candidacy: str
    task: asyncio.Task[None] | None = None
    names: set[str] = field(default_factory=set)
    proof: str = ""


class Log(Protocol):
    """The termination log of our own container."""

    def append(self, line: str) -> None:
        """Add a line. That it could not be is logged, and no more: then nobody is told."""
        ...

    def obstacle(self) -> str:
        """Return why it cannot be written, or ""."""
        ...


class TerminationLog:
    """The file that the kubelet has put into the container.

    A write is a line at the end of a small file on the node: nothing that has to be waited for.
    """

    def __init__(self, path: str = TERMINATION_LOG) -> None:
        self._path = path

    def append(self, line: str) -> None:
        """Add a line, on a line of its own whatever the application has written there."""
        try:
            log = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                os.write(log, f"\n{line}\n".encode())
            finally:
                os.close(log)
        except OSError as error:
            _log.warning("nobody will be told of our death: %s: %s", self._path, error.strerror)

    def obstacle(self) -> str:
        """Ask the file system."""
        return "" if os.access(self._path, os.W_OK) else f"{self._path} cannot be written here"


class Deaths:
    """Watches the Pods of holders, and reports who is proven dead to whoever follows.

    Args:
        pods: the Pods of the namespace in which holders run.
        log: the termination log of our own container.
    """

    def __init__(self, pods: PodWatch, log: Log) -> None:
        self._pods = pods
        self._log = log
        self._own: set[str] = set()
        self._sinks: dict[str, list[tuple[Sink, Sink]]] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._holders: dict[str, _Watched] = {}

    # -- our own death ----------------------------------------------------------------------------

    def announce(self, term: str) -> None:
        """Write who we are, once for each candidacy, before a take."""
        candidacy = candidacy_of(term)
        if candidacy not in self._own:
            self._own.add(candidacy)
            self._log.append(line_of(candidacy))

    def examine(self) -> Finding:
        """Look whether others would be told of our death. From outside of a Pod they are not."""
        check, why = "termination log", self._log.obstacle()
        if not why:
            return Finding(check, True, "it can be written")
        text = f"{why}: our own death would be waited out"
        return Finding(check, None, text, "run it in the container, or set termination_log=")

    # -- that of others ---------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> Sink:
        """Return the sink to follow an election with in the place of this one."""

        def told(event: Seen | Evidence) -> None:
            sink(event)
            if isinstance(event, Seen):
                self._seen(name, event.snapshot, sink)

        self._sinks.setdefault(name, []).append((sink, told))
        return told

    def unfollow(self, name: str, sink: Sink) -> Sink:
        """Return the sink that `follow` made of this one, and forget both."""
        for entry in self._sinks.get(name, ()):
            if entry[0] == sink:
                self._sinks[name].remove(entry)
                if not self._sinks[name]:
                    del self._sinks[name]
                    self._leave(name)
                return entry[1]
        return sink

    async def close(self) -> None:
        """Watch nobody any more."""
        tasks = [each.task for each in self._holders.values() if each.task is not None]
        self._sinks.clear()
        self._keys.clear()
        self._holders.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _seen(self, name: str, snapshot: Snapshot, sink: Sink) -> None:
        held = snapshot.holding is Holding.HELD and bool(pod_in(snapshot.holder)[1])
        candidacy = candidacy_of(snapshot.term) if held else ""
        known = self._keys.get(name)
        theirs = bool(candidacy) and candidacy not in self._own
        wanted = (candidacy, snapshot.lease_key) if theirs else None
        if wanted != known:
            self._leave(name)
            if wanted is not None and name in self._sinks:
                self._keys[name] = wanted
                self._watch(candidacy, name)
        watched = self._holders.get(candidacy)
        if wanted is not None and watched is not None and watched.proof:
            sink(Evidence(wanted[1], watched.proof))

    def _watch(self, candidacy: str, name: str) -> None:
        watched = self._holders.get(candidacy)
        if watched is None:
            watched = self._holders[candidacy] = _Watched(candidacy)
            watched.task = asyncio.get_running_loop().create_task(self._follow_pod(watched))
        watched.names.add(name)

    def _leave(self, name: str) -> None:
        candidacy, _ = self._keys.pop(name, ("", ""))
        watched = self._holders.get(candidacy)
        if watched is None:
            return
        watched.names.discard(name)
        if not watched.names:
            del self._holders[candidacy]
            if watched.task is not None:
                watched.task.cancel()

    async def _follow_pod(self, watched: _Watched) -> None:
        """Watch one Pod until it proves a death; whatever fails is silence."""
        name, _ = pod_in(watched.candidacy.partition("/")[0])
        failures, complaint = 0, ""
        while not watched.proof:
            try:
                async with asyncio.timeout(WATCH_S + SLACK_S):
                    async with aclosing(self._pods.watch(name, "", WATCH_S)) as changes:
                        async for change in changes:
                            if self._proves(watched, change):
                                return
                failures = 0
            except (StoreError, NotFound, Expired, TimeoutError) as error:
                if complaint != (complaint := str(error) or "no answer in time"):
                    _log.warning(
                        "the Pod of %s cannot be watched: %s", watched.candidacy, complaint
                    )
            except Exception:  # A mistake of ours is silence, too: nobody waits for this task.
                _log.exception("watching the Pod of %s", watched.candidacy)
                return
            failures += 1
            await asyncio.sleep(pause_after_s(failures))

    def _proves(self, watched: _Watched, change: Change) -> bool:
        """Report a death that this proves, and tell whether it does."""
        if change.kind not in (Kind.ADDED, Kind.MODIFIED, Kind.DELETED):
            return False
        watched.proof = proof_of_death(change.object, watched.candidacy)
        if watched.proof:
            self._report(watched)
        return bool(watched.proof)

    def _report(self, watched: _Watched) -> None:
        for name in sorted(watched.names):
            _, key = self._keys[name]
            for _, told in list(self._sinks.get(name, ())):
                told(Evidence(key, watched.proof))
