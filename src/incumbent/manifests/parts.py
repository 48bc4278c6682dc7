"""The parts of which an application is made: ports, probes, resources, storage, a companion.

Each checks itself when it is made, and the field that it complains about is called as in a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from incumbent.errors import ConfigError
from incumbent.manifests import fields

__all__ = [
    "ASKED_IN",
    "Autoscaling",
    "Companion",
    "Port",
    "Probe",
    "Resources",
    "Storage",
    "check_ports",
]

ASKED_IN = "/run/incumbent"
"""A folder of the container, in which `incumbent run` is asked whether it is alive."""

_LEADERSHIP = {
    "active",
    "elected",
    "is-leader",
    "isleader",
    "leader",
    "leadership",
    "leading",
    "master",
    "primary",
}


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port that the container listens on, and that its Service has, too.

    Attributes:
        number: from 1 to 65535.
        name: by which probes and Services mean it.
    """

    number: int
    name: str = "http"

    def __post_init__(self) -> None:
        fields.integer("ports.number", self.number, 1, 65535)
        fields.label("ports.name", self.name, longest=15)


@dataclass(frozen=True, slots=True)
class Probe:
    """How the kubelet asks: a GET of a path, a command, or, with neither, a connection.

    Attributes:
        path: what is asked for by HTTP.
        command: what is run in the container; 0 is well.
        port: the name of the port; "" for the first.
        period_s: from one question to the next.
        timeout_s: until silence is a failure.
        failures: how many in a row count.
    """

    path: str = ""
    command: tuple[str, ...] = ()
    port: str = ""
    period_s: int = 10
    timeout_s: int = 2
    failures: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", fields.words("command of a probe", self.command))
        path = fields.line("path of a probe", self.path)
        if path and not path.startswith("/"):
            raise fields.refuse("path of a probe", path, "must begin with '/'")
        if path and self.command:
            raise ConfigError("a probe has a path or a command, and not both: leave one out")
        fields.integer("period_s of a probe", self.period_s, 1, 3600)
        fields.integer("timeout_s of a probe", self.timeout_s, 1, self.period_s)
        fields.integer("failures of a probe", self.failures, 1, 1000)

    def check(self, name: str, ports: tuple[Port, ...]) -> None:
        """Make sure that there is what it asks, and that it does not ask who leads.

        Raises:
            ConfigError: otherwise.
        """
        if not self.command and not ports:
            raise ConfigError(f"{name}: there is no port to ask: add one, or give a command")
        if self.port and self.port not in [port.name for port in ports]:
            names = ", ".join(port.name for port in ports)
            raise fields.refuse(f"{name}.port", self.port, f"is none of the ports ({names})")
        if name == "readiness" and _LEADERSHIP & set(self.path.lower().split("/")):
            raise fields.refuse(
                "readiness.path",
                self.path,
                "asks who leads: a rollout waits for ever for a standby that is never ready. Ask "
                "whether this replica works",
            )


@dataclass(frozen=True, slots=True)
class Resources:
    """What the container is sure of: requests, and of memory the limit as well.

    Memory cannot be given back, so more than was asked for is another Pod's. A limit of the CPU
    would be harmful: the kernel holds a process that has used up its share of 100 ms until the next
    ones, and a takeover is nothing but a short moment of much work.

    Attributes:
        cpu: as in 250m.
        memory: as in 512Mi.
    """

    cpu: str = "100m"
    memory: str = "128Mi"

    def __post_init__(self) -> None:
        object.__setattr__(self, "cpu", fields.quantity("resources.cpu", self.cpu))
        object.__setattr__(self, "memory", fields.quantity("resources.memory", self.memory))


@dataclass(frozen=True, slots=True)
class Storage:
    """A PersistentVolumeClaim, and where it is mounted.

    Attributes:
        size: as in 10Gi.
        path: the folder in the container.
        storage_class: the name of a StorageClass; the cluster's default, if unsaid.
    """

    size: str
    path: str = "/data"
    storage_class: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", fields.quantity("storage.size", self.size))
        fields.absolute("storage.path", self.path)
        if self.storage_class:
            fields.subdomain("storage.storage_class", self.storage_class)


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """Bounds of a HorizontalPodAutoscaler that follows the use of the CPU.

    Attributes:
        min_replicas: the fewest.
        max_replicas: the most.
        cpu_percent: the use that it aims at.
    """

    min_replicas: int
    max_replicas: int
    cpu_percent: int = 80

    def __post_init__(self) -> None:
        fields.integer("autoscaling.min_replicas", self.min_replicas, 1, 10_000)
        fields.integer("autoscaling.max_replicas", self.max_replicas, 1, 10_000)
        fields.integer("autoscaling.cpu_percent", self.cpu_percent, 1, 100)
        if self.max_replicas < self.min_replicas:
            raise ConfigError(
                f"autoscaling: max_replicas={self.max_replicas} is less than "
                f"min_replicas={self.min_replicas}: exchange them"
            )


def check_ports(field_: str, ports: object) -> None:
    """Make sure that the ports differ in name and number.

    Raises:
        ConfigError: two are the same.
    """
    if not isinstance(ports, tuple) or not all(isinstance(port, Port) for port in ports):
        raise fields.refuse(field_, ports, "must be a list of ports")
    for what in ("name", "number"):
        found = [getattr(port, what) for port in ports]
        twice = [one for one in found if found.count(one) > 1]
        if twice:
            raise fields.refuse(field_, twice[0], f"is the {what} of two ports: change one")


@dataclass(frozen=True, slots=True)
class Companion:
    """The stateless service beside the singleton: as many replicas as it likes.

    Attributes:
        image: of its container.
        ports: what its Service has; at least one.
        replicas: how many, if nothing scales them.
        command: in place of the image's entry point.
        args: its arguments.
        resources: of each replica.
        autoscaling: who sets the number instead.
        storage: a volume that all replicas mount, so its class must offer ReadWriteMany.
        readiness: asked before a replica gets calls.
        liveness: asked whether it works.
    """

    image: str
    ports: tuple[Port, ...] = (Port(8080),)
    replicas: int = 2
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    autoscaling: Autoscaling | None = None
    storage: Storage | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None

    def __post_init__(self) -> None:
        fields.image("companion.image", self.image)
        check_ports("companion.ports", self.ports)
        if not self.ports:
            raise ConfigError("companion.ports: a Service needs one: add {name: http, number: 80}")
        fields.integer("companion.replicas", self.replicas, 1, 10_000)
        for name in ("command", "args"):
            object.__setattr__(self, name, fields.words(f"companion.{name}", getattr(self, name)))
        for name, probe in (("readiness", self.readiness), ("liveness", self.liveness)):
            if probe is not None:
                probe.check(name, self.ports)
