"""`?evidence=1`: a standby takes over at once when the kubelet has seen the holder's container end.

What proves a death
-------------------
The kubelet learns from the container runtime, which has waited for the container's first process.
When that one ends, the kernel kills every other process of its PID namespace before anybody can
reap it. So `terminated` for a container means that everything in it is dead.

Which container that is, is the hard half. A name says nothing: the next instance in the same Pod
has it too, and a status may come late. So **the holder writes its identity, which is random for
each process, into its container's termination log before it takes**, and the kubelet reports that
file, which it makes anew for each instance, as the `message` of `terminated`. A message with our
line is about the very container in which the very candidate ran, in `state` or, if that Pod has
gone on with a new instance, in `lastState`.

Rules
-----
1. Evidence is: the UID of the Pod as the identity names it, `terminated` in the status of a
   container, and in its message the whole line that its holder wrote.
2. **The reason is one that follows from a wait**: `Completed`, `Error`, `OOMKilled`. A kubelet that
   does not find a container says `ContainerStatusUnknown`, and a runtime that has lost one says
   `Unknown`; both mean that nobody knows. What is not on the list is silence. So is the exit code
   255: containerd reports it, as an `Error`, of a container whose parent it has lost. It has tried
   to kill it by then, and has not waited for its end (tried: `tests/cluster/live/silence.py`).
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

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Holding, Snapshot
from incumbent.errors import StoreError
from incumbent.stores.api import Finding, Sink
from incumbent.stores.kubernetes.api import Expired, Kind, NotFound
from incumbent.stores.kubernetes.patience import SLACK_S, WATCH_S, pause_after_s
from incumbent.stores.kubernetes.pods import PodApi, pod_in
from incumbent.stores.kubernetes.wire import PREFIX, Object

__all__ = ["TERMINATION_LOG", "WHY", "Deaths", "line_of", "proof_of_death"]

TERMINATION_LOG = "/dev/termination-log"
"""Kubernetes' own `terminationMessagePath`."""
WAITED_FOR = frozenset({"Completed", "Error", "OOMKilled"})
LOST = 255
WHY = "the kubelet has seen the end of the very container that the holder ran in"

_log = logging.getLogger("incumbent.stores.kubernetes")


def line_of(identity: str) -> str:
    """Return the line that a candidate writes into its container's termination log."""
    return f"{PREFIX}candidate {identity}"


def proof_of_death(pod: Object, identity: str) -> str:
    """Return what in a Pod proves that this candidate is dead, or "".

    Args:
        pod: as the API server has it.
        identity: of a holder, as a record names it.
    """
    name, uid = pod_in(identity)
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
            if policies.get(each.get("name")) == "File" and _ended(each, identity):
                return f"{WHY}: {each['name']!r} of Pod {name!r}"
    return ""


def _ended(container: Object, identity: str) -> bool:
    for state in ("state", "lastState"):
        ended = (container.get(state) or {}).get("terminated")
        if not ended or ended.get("reason") not in WAITED_FOR or ended.get("exitCode") == LOST:
            continue
        if line_of(identity) in str(ended.get("message", "")).splitlines():
            return True
    return False


@dataclass(slots=True)
class _Watched:
    """A holder whose Pod is watched."""

    identity: str
    task: asyncio.Task[None] | None = None
    names: set[str] = field(default_factory=set)
    proof: str = ""


class Deaths:
    """Watches the Pods of holders, and reports who is proven dead to whoever follows.

    Args:
        pods: the Pods of the namespace in which holders run.
        log: the termination log of our own container.
    """

    def __init__(self, pods: PodApi, log: str = TERMINATION_LOG) -> None:
        self._pods = pods
        self._path = log
        self._own: set[str] = set()
        self._sinks: dict[str, list[tuple[Sink, Sink]]] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self._holders: dict[str, _Watched] = {}

    # -- our own death ----------------------------------------------------------------------------

    def announce(self, identity: str) -> None:
        """Write who we are into our container's termination log, once, before a take.

        It is a line at the end of a small file on the node: nothing that has to be waited for.
        """
        if identity in self._own:
            return
        self._own.add(identity)
        try:
            log = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            _log.warning("nobody will be told of our death: %s: %s", self._path, error.strerror)
            return
        try:
            os.write(log, f"\n{line_of(identity)}\n".encode())
        except OSError as error:
            _log.warning("nobody will be told of our death: %s: %s", self._path, error.strerror)
        finally:
            os.close(log)

    def examine(self) -> Finding:
        """Look whether others would be told of our death. From outside of a Pod they are not."""
        check = "termination log"
        if os.access(self._path, os.W_OK):
            return Finding(check, True, f"{self._path} can be written")
        text = f"{self._path} cannot be written here: our own death would be waited out"
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
        held = snapshot.holding is Holding.HELD and bool(snapshot.term)
        identity = snapshot.holder if held and snapshot.holder not in self._own else ""
        known = self._keys.get(name)
        wanted = (identity, snapshot.lease_key) if identity and pod_in(identity)[1] else None
        if wanted != known:
            self._leave(name)
            if wanted is not None and name in self._sinks:
                self._keys[name] = wanted
                self._watch(identity, name)
        watched = self._holders.get(identity)
        if wanted is not None and watched is not None and watched.proof:
            sink(Evidence(wanted[1], watched.proof))

    def _watch(self, identity: str, name: str) -> None:
        watched = self._holders.get(identity)
        if watched is None:
            watched = self._holders[identity] = _Watched(identity)
            watched.task = asyncio.get_running_loop().create_task(self._follow_pod(watched))
        watched.names.add(name)

    def _leave(self, name: str) -> None:
        identity, _ = self._keys.pop(name, ("", ""))
        watched = self._holders.get(identity)
        if watched is None:
            return
        watched.names.discard(name)
        if not watched.names:
            del self._holders[identity]
            if watched.task is not None:
                watched.task.cancel()

    async def _follow_pod(self, watched: _Watched) -> None:
        """Watch one Pod until it proves a death; whatever fails is silence."""
        failures, complaint = 0, ""
        while not watched.proof:
            try:
                async with asyncio.timeout(WATCH_S + SLACK_S):
                    await self._look(watched)
                failures = 0
            except (StoreError, NotFound, Expired, TimeoutError) as error:
                if complaint != (complaint := str(error) or "no answer in time"):
                    _log.warning("the Pod of %s cannot be watched: %s", watched.identity, complaint)
            except Exception:
                _log.exception("watching the Pod of %s", watched.identity)
            failures += 1
            if not watched.proof:
                await asyncio.sleep(pause_after_s(failures))

    async def _look(self, watched: _Watched) -> None:
        name, _ = pod_in(watched.identity)
        watch = self._pods.watch(name, "", WATCH_S)
        async with aclosing(watch) as changes:
            async for change in changes:
                if change.kind not in (Kind.ADDED, Kind.MODIFIED, Kind.DELETED):
                    continue
                watched.proof = proof_of_death(change.object, watched.identity)
                if watched.proof:
                    self._report(watched)
                    return

    def _report(self, watched: _Watched) -> None:
        for name in sorted(watched.names):
            _, key = self._keys[name]
            for _, told in list(self._sinks.get(name, ())):
                told(Evidence(key, watched.proof))
