"""What the API server refuses of a Singleton: rules in CEL, beside the types of the schema.

They are those of the model that somebody is most likely to meet: what does not go together. The
model stays the law. A rule here may only refuse what the model refuses, under the same field, and
the tests hold each one against it in both directions. What no rule says, the operator says in the
status, from the model's own words.

What is empty counts as not said, as it does in the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from incumbent.manifests import Object
from incumbent.manifests.modes import Mode

__all__ = ["NAME", "RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        field: what it is about; "" where it is the name of the resource.
        holds: the expression in CEL; `self` is the spec.
        otherwise: what to change.
    """

    field: str
    holds: str
    otherwise: str

    def manifest(self) -> Object:
        """Return the validation, as a schema has it."""
        found = {"rule": self.holds, "message": f"{self.field or 'name'}: {self.otherwise}"}
        return {**found, "fieldPath": f".{self.field}"} if self.field else found


def _words(*modes: Mode) -> str:
    return ", ".join(f"'{mode}'" for mode in modes)


_SINGLE = f"(self.mode in [{_words(*(mode for mode in Mode if mode.single))}])"
_STANDBY = f"self.mode == {_words(Mode.ACTIVE_STANDBY)}"
_PARTLY = f"self.mode == {_words(Mode.PARTLY_SINGLETON)}"
_STRICT = f"self.mode == {_words(Mode.AT_MOST_ONE)}"


def _said(name: str) -> str:
    return f"(has(self.{name}) && size(self.{name}) > 0)"


_WORKS = f"({_said('command')} && self.command[0] == 'incumbent')"
"""Work of ours may listen nowhere; which of its commands can is the model's to say."""

NAME = Rule(
    "",
    "size(self.metadata.name) <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "use 1 to 52 of a-z, 0-9 and '-', with a letter in front: it becomes a part of a DNS name",
)

RULES = (
    Rule(
        "replicas",
        f"!{_SINGLE} || !has(self.replicas) || self.replicas == 1",
        "this mode is one replica: leave it out, or use mode active-standby",
    ),
    Rule(
        "replicas",
        f"{_SINGLE} || !has(self.replicas) || self.replicas >= 2",
        "one replica leaves nobody to take over: use 2 or more",
    ),
    Rule(
        "autoscaling",
        f"!has(self.autoscaling) || {_PARTLY}",
        "only replicas that all answer can be scaled: leave it out, or use mode partly-singleton",
    ),
    Rule(
        "replicas",
        "!has(self.autoscaling) || !has(self.replicas)",
        "the autoscaler sets the number: leave replicas out",
    ),
    Rule(
        "autoscaling",
        "!has(self.autoscaling) || self.autoscaling.minReplicas >= 2",
        "1 replica leaves nobody to take over: use minReplicas 2 or more",
    ),
    *(
        Rule(
            name,
            f"!{_said(name)} || !{_SINGLE}",
            "in this mode nothing is elected: leave it out, or use mode active-standby",
        )
        for name in ("lease", "store", "storeSecret", "routing")
    ),
    Rule(
        "checkpoints",
        f"!{_said('checkpoints')} || {_PARTLY}",
        "they are of work that elects by itself: leave it out, or use mode partly-singleton",
    ),
    Rule(
        "checkpoints",
        f"!{_said('checkpoints')} || !{_said('storeSecret')} && "
        f"(!{_said('store')} || self.store.startsWith('kubernetes:'))",
        "the rights are to Leases of this cluster: leave it out, or store and storeSecret",
    ),
    Rule(
        "storage",
        f"!has(self.storage) || {_STRICT}",
        "one volume is mounted by one replica that is waited for: use mode at-most-one",
    ),
    Rule(
        "owner",
        f"!{_SINGLE} || {_said('owner')}",
        "whom to ask before the only replica is moved, as in payments@example.com",
    ),
    Rule(
        "command",
        f"!({_STANDBY}) || {_said('command')}",
        "`incumbent run` starts the process in the replica that is elected, so say which",
    ),
    Rule(
        "ports",
        f"!({_STANDBY}) || !{_said('ports')} || {_said('routing')}",
        "standbys do not listen: say how the active one is found by routing, or leave it out",
    ),
    Rule(
        "ports",
        f"!({_PARTLY}) || {_said('ports')} || {_WORKS}",
        "all replicas answer behind a Service, which needs a port: add {name: http, number: 8080}",
    ),
    Rule(
        "storeSecret",
        f"!{_said('store')} || !{_said('storeSecret')}",
        "store and storeSecret exclude each other: leave one out",
    ),
)
"""The rules of the spec."""
