"""What is told of an application, and what cannot be meant.

Everything that could not work is refused here, by one error that names the field; below, nothing
is checked any more. What follows from the mode, and was not told, is a property.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from incumbent.core.records import check_name
from incumbent.errors import ConfigError, InvalidName
from incumbent.manifests import fields, times
from incumbent.manifests.modes import Mode
from incumbent.manifests.parts import (
    ASKED_IN,
    Autoscaling,
    Companion,
    Port,
    Probe,
    Resources,
    Storage,
    check_ports,
)
from incumbent.manifests.times import Times
from incumbent.stores import OURS, schemes
from incumbent.stores.api import StoreURL

__all__ = ["Application"]

_LONGEST_NAME = 52
"""A StatefulSet's Pods carry its name, a `-`, and a hash of ten in a label of 63 characters."""
_ONE_HOST = ("file", "memory", "sqlite")
_PULL = ("IfNotPresent", "Always", "Never")
_USUAL_REPLICAS = 2
_NAMING = ("every", "poll", "consume")
_WORKS = (*_NAMING, "work")
"""The commands that elect by themselves in each replica; the first ones name their election."""
_ONLY_JOB = "job.main"
"""The part of a task that is alone in its election."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """One application that must not be active twice.

    Attributes:
        name: of its workload, its Service, and everything around it.
        image: what runs; with a version.
        mode: how it is kept single.
        namespace: where.
        command: in place of the image's entry point.
        args: its arguments.
        env: further variables.
        replicas: how many; 1, or 2 where one of several is elected.
        ttl_s: TTL of the lease, where one is elected.
        grace_s: how long the work needs to stop.
        lease: the election, and the Lease; as the workload is called, if unsaid.
        store: where elections are kept; the Pods' own namespace, if unsaid.
        store_secret: `SECRET/KEY` with a store's URL that is nobody else's business.
        routing: how calls find the active one of several: `label` or `endpointslice`.
        evidence: whether a standby believes the kubelet that the active container has ended.
        ports: what the container listens on, the first one first.
        resources: of each replica.
        priority_class: the name of a PriorityClass.
        storage: a volume of the only replica.
        startup: asked until it has started; as `liveness`, if unsaid.
        liveness: asked whether the work goes on. It must not ask the API server.
        readiness: asked before calls are sent. It must not ask who leads.
        tolerations_s: how long a Pod stays bound to a node that is lost.
        owner: whom to ask before the only replica is moved.
        autoscaling: who sets the number of replicas of a partly-singleton.
        companion: the stateless service beside it.
        pull_policy: when the image is pulled.
        pull_secrets: names of Secrets to pull it with.
        user: the user and group that it runs as.
        writable: folders that it may write to, each empty at the start.
        guard: whether the policies are written, too, that keep an only replica the only one.
        handover: whether the active replica hands over before it is evicted. Its Pod carries the
            role label, by which evictions of it are refused; needs the right to look at the Pods of
            the namespace, and to label them.
        handover_cordon: whether it does so when its node is cordoned, too; needs the right to look
            at nodes, which lie in no namespace.
        checkpoints: the parts of the work whose checkpoints are Leases of this cluster, as in
            job.main, consumer, poll; adds the rights to those. That of `incumbent every` is known.
    """

    name: str
    image: str
    mode: Mode
    namespace: str = "default"
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    replicas: int | None = None
    ttl_s: float = 15.0
    grace_s: float | None = None
    lease: str = ""
    store: str = ""
    store_secret: str = ""
    routing: str = ""
    evidence: bool = False
    ports: tuple[Port, ...] = ()
    resources: Resources = field(default_factory=Resources)
    priority_class: str = ""
    storage: Storage | None = None
    startup: Probe | None = None
    liveness: Probe | None = None
    readiness: Probe | None = None
    tolerations_s: int | None = None
    owner: str = ""
    autoscaling: Autoscaling | None = None
    companion: Companion | None = None
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    user: int = 10001
    writable: tuple[str, ...] = ("/tmp",)
    guard: bool = False
    handover: bool = False
    handover_cordon: bool = False
    checkpoints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fields.label("name", self.name, longest=_LONGEST_NAME)
        fields.image("image", self.image)
        object.__setattr__(self, "mode", Mode(fields.known("mode", self.mode, list(Mode))))
        fields.label("namespace", self.namespace)
        for name in ("command", "args", "pull_secrets", "writable", "checkpoints"):
            object.__setattr__(self, name, fields.words(name, getattr(self, name)))
        object.__setattr__(self, "env", fields.variables("env", self.env))
        for secret in self.pull_secrets:
            fields.subdomain("pull_secrets", secret)
        for path in self.writable:
            fields.absolute("writable", path)
        check_ports("ports", self.ports)
        if self.priority_class:
            fields.subdomain("priority_class", self.priority_class)
        fields.line("owner", self.owner)
        fields.known("pull_policy", self.pull_policy, _PULL)
        fields.integer("user", self.user, 1, 2**31 - 1)
        fields.boolean("guard", self.guard)
        fields.boolean("handover", self.handover)
        fields.boolean("handover_cordon", self.handover_cordon)
        if self.handover_cordon and not self.handover:
            raise ConfigError("handover_cordon: it is a further cause to hand over: add handover")
        if self.tolerations_s is not None:
            fields.integer("tolerations_s", self.tolerations_s, 0, 86_400)
        if self.grace_s is not None:
            fields.seconds("grace_s", self.grace_s)
        fields.seconds("ttl_s", self.ttl_s)
        if self.mode.single:
            self._check_single()
        else:
            self._check_elected()
        self._check_probes()
        self._check_mounts()
        _ = self.times

    # -- what follows -----------------------------------------------------------------------------

    @property
    def times(self) -> Times:
        """The seconds of a Pod.

        Raises:
            ConfigError: TTL and grace do not work out.
        """
        if self.mode.single:
            strict = self.mode is Mode.AT_MOST_ONE
            return times.of_single(self.grace_s, self.tolerations_s, strict=strict)
        return times.of_elected(
            self.ttl_s,
            self.grace_s,
            self.tolerations_s,
            whole_seconds=self.leased,
            partly=self.mode is Mode.PARTLY_SINGLETON,
        )

    @property
    def count(self) -> int:
        """How many replicas there are at the start."""
        if self.mode.single:
            return 1
        if self.autoscaling is not None:
            return self.autoscaling.min_replicas
        return _USUAL_REPLICAS if self.replicas is None else self.replicas

    @property
    def election(self) -> str:
        """The name of the election."""
        return self.lease or self.name

    @property
    def store_url(self) -> str:
        """Where the election is kept; "" if a Secret says it, or nothing is elected."""
        if self.mode.single or self.store_secret:
            return ""
        return (self.store or "kubernetes://") + self._asked

    @property
    def _asked(self) -> str:
        """What is asked of the store beside its usual ways, as the query of its URL."""
        if self.store and not self.store.startswith("kubernetes:"):
            return ""
        asked = [
            *(["recipe=slice"] if self.routing == "endpointslice" else ()),
            *(["role_label=1"] if self.labelled else ()),
            *(["evidence=1"] if self.evidence else ()),
        ]
        return f"?{'&'.join(asked)}" if asked else ""

    @property
    def labelled(self) -> bool:
        """Whether the active Pod carries the role label: for calls, or for who may evict it."""
        return self.routing == "label" or self.handover

    @property
    def sliced(self) -> bool:
        """Whether the lock is the EndpointSlice of the Service."""
        return self.leased and self.routing == "endpointslice"

    @property
    def leased(self) -> bool:
        """Whether the election is a Lease of this cluster."""
        return self.store_url.startswith("kubernetes:")

    @property
    def works(self) -> str:
        """Which command of ours the elected work is, as in "every"; "" if it is none."""
        ours = self.mode is Mode.PARTLY_SINGLETON and self.command[:1] == ("incumbent",)
        verb = self._words[1:2]
        return verb[0] if ours and verb and verb[0] in _WORKS else ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the work that have a checkpoint among the Leases of this cluster."""
        if self.checkpoints or not self.leased:
            return self.checkpoints
        return (_ONLY_JOB,) if self.works == "every" else ()

    @property
    def _words(self) -> tuple[str, ...]:
        return (*self.command, *self.args)

    # -- what cannot be meant ---------------------------------------------------------------------

    def _check_single(self) -> None:
        if self.replicas is not None and self.replicas != 1:
            raise fields.refuse(
                "replicas",
                self.replicas,
                f"in mode {self.mode}, which is one replica: leave it out, or elect one of several "
                "by mode active-standby",
            )
        if self.autoscaling is not None:
            raise ConfigError(
                f"autoscaling: what scales is not single, and mode {self.mode} is: leave it out, "
                "or use mode partly-singleton"
            )
        for name in ("lease", "store", "store_secret", "routing", "evidence", "checkpoints"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name}: in mode {self.mode} nothing is elected: leave it out, or use mode "
                    "active-standby"
                )
        if self.handover:
            raise ConfigError(
                f"handover: in mode {self.mode} there is nobody to hand over to: leave it out, or "
                "use mode active-standby"
            )
        if self.storage is not None and self.mode is Mode.AT_LEAST_ONE:
            raise ConfigError(
                "storage: a successor would wait until the old Pod gives the volume back, on a "
                "lost node for ever, and that is no longer at least one: use mode at-most-one"
            )
        if not self.owner.strip():
            raise ConfigError(
                f"owner: in mode {self.mode} no drain may move the only replica before somebody "
                "has been asked, so say whom, as in owner: payments@example.com"
            )

    def _check_elected(self) -> None:
        if self.replicas is not None:
            fields.integer("replicas", self.replicas, 2, 10_000)
        if self.storage is not None:
            raise ConfigError(
                f"storage: one volume is mounted by one replica, and mode {self.mode} has several: "
                "leave it out, or use mode at-most-one"
            )
        if self.lease:
            fields.subdomain("lease", self.lease)
        if self.guard:
            raise ConfigError(
                f"guard: it keeps a marked singleton at one replica, and mode {self.mode} has "
                "several and elects one: leave it out"
            )
        self._check_store()
        self._check_asked()
        if self.mode is Mode.ACTIVE_STANDBY:
            self._check_standby()
        elif not self.ports and not self.works:
            raise ConfigError(
                "ports: a partly-singleton answers behind a Service, which needs one: add "
                "{name: http, number: 8080}, or use mode active-standby"
            )
        self._check_work()
        if self.autoscaling is not None:
            if self.replicas is not None:
                raise ConfigError(
                    "replicas: the autoscaler sets the number, and would be overruled at each "
                    "apply: leave replicas out"
                )
            if self.autoscaling.min_replicas < 2:
                raise ConfigError(
                    "autoscaling.min_replicas: 1 leaves nobody to take over: use 2 or more"
                )

    def _check_work(self) -> None:
        """Refuse rights to checkpoints that nobody would use, and those of another election."""
        for part in self.checkpoints:
            try:
                check_name(part)
            except InvalidName:
                raise fields.refuse(
                    "checkpoints", part, "is no part of any work: use names like job.main, consumer"
                ) from None
        if self.checkpoints and self.mode is Mode.ACTIVE_STANDBY:
            raise ConfigError(
                "checkpoints: in mode active-standby `incumbent run` is elected, and keeps none: "
                "leave it out, or use mode partly-singleton, where the work itself is"
            )
        if self.checkpoints and not self.leased:
            raise ConfigError(
                "checkpoints: it is about Leases of this cluster: leave it out, for the rights to "
                "another store are not given here"
            )
        own = self._words[: self._words.index("--")] if "--" in self._words else self._words
        if self.works in _NAMING and self.election not in own:
            raise ConfigError(
                f"command: `incumbent {self.works}` must name the election {self.election!r}, for "
                "the rights here are to that one: change the command, or say its name by lease"
            )

    def _check_standby(self) -> None:
        if not self.command:
            raise ConfigError(
                "command: `incumbent run` starts the process in the replica that is elected, so "
                "it must be told which: command: [python, poll.py]"
            )
        if self.autoscaling is not None:
            raise ConfigError(
                "autoscaling: standbys do no work, so more of them help nobody: set replicas, or "
                "use mode partly-singleton"
            )
        if self.ports and not self.routing:
            raise ConfigError(
                "ports: in mode active-standby only the active replica listens, and a Service "
                "would send calls to standbys as well: say how the active one is found by routing "
                "(label or endpointslice), or use mode partly-singleton, where all replicas answer"
            )

    def _check_store(self) -> None:
        if self.store and self.store_secret:
            raise ConfigError("store and store_secret exclude each other: leave one out")
        if self.store_secret:
            secret, slash, key = fields.line("store_secret", self.store_secret).partition("/")
            if not slash or not key:
                raise fields.refuse("store_secret", self.store_secret, "must be SECRET/KEY")
            fields.subdomain("store_secret", secret)
        if not self.store:
            return
        url = StoreURL.parse(fields.line("store", self.store))
        if url.scheme not in OURS and url.scheme not in schemes():
            known = ", ".join(schemes())
            raise ConfigError(
                f"store: no store answers to {url.scheme}://; there are: {known}. The URL of one "
                "that is not installed here may stand in a Secret: name that by store_secret: "
                "SECRET/KEY"
            )
        if url.scheme in _ONE_HOST:
            raise ConfigError(
                f"store: with {url.scheme}:// every Pod has a store of its own, and so a leader "
                "of its own: leave it out for Leases of this cluster, or name a server"
            )
        if url.password or (url.scheme == "consul" and url.username):  # Consul's is the token.
            raise ConfigError(
                "store: the password in it could be read by everybody who may see the Pod: put "
                "the URL into a Secret, and name that by store_secret: SECRET/KEY"
            )
        if url.scheme == "kubernetes":
            if url.options:
                raise ConfigError(
                    f"store: the rights here are those of one Lease, and {sorted(url.options)[0]}= "
                    "needs others: use kubernetes:// alone"
                )
            if url.host not in ("", self.namespace):
                raise ConfigError(
                    f"store: the Lease lies in namespace {url.host!r}, and the rights in "
                    f"{self.namespace!r}: use kubernetes:// alone"
                )

    def _check_asked(self) -> None:
        """Refuse what only a Lease or a slice of this cluster can do, and where it cannot."""
        if self.routing:
            fields.known("routing", self.routing, ["label", "endpointslice"])
        if not isinstance(self.evidence, bool):
            raise fields.refuse("evidence", self.evidence, "must be true or false")
        for name in ("routing", "evidence", "handover"):
            if getattr(self, name) and not self.leased:
                raise ConfigError(
                    f"{name}: it is about Pods and records of this cluster: leave out store and "
                    "store_secret"
                )
        if self.routing and not self.ports:
            raise ConfigError(
                "routing: what is called listens, and a Service needs to know where: add ports"
            )
        if self.mode is Mode.ACTIVE_STANDBY:
            if self.routing == "endpointslice" and self.lease not in ("", self.name):
                raise ConfigError(
                    "lease: with routing endpointslice the lock is the slice of the Service, and "
                    "is called like it: leave lease out"
                )
            return
        if self.evidence:
            raise ConfigError(
                f"evidence: in mode {self.mode} the containers share a process namespace, so the "
                "end of one proves the end of no other: leave it out"
            )
        if self.routing == "endpointslice":
            raise ConfigError(
                f"routing: in mode {self.mode} every replica answers behind the Service, which has "
                "a selector: use label, which adds a Service for the active one"
            )

    def _check_probes(self) -> None:
        for name in ("startup", "liveness", "readiness"):
            probe: Probe | None = getattr(self, name)
            if probe is None:
                continue
            if self.mode is Mode.ACTIVE_STANDBY and not probe.command:
                raise ConfigError(
                    f"{name}: in a standby nothing listens that could answer: give a command, "
                    "which is asked only where the work runs"
                )
            probe.check(name, self.ports)

    def _check_mounts(self) -> None:
        mounted = [*self.writable, *([self.storage.path] if self.storage else [])]
        if self.mode is Mode.ACTIVE_STANDBY:
            mounted.append(ASKED_IN)
        twice = [path for path in mounted if mounted.count(path) > 1]
        if twice:
            raise fields.refuse("writable", twice[0], "is mounted twice: leave one out")
