"""A Helm chart, whose templates are the very objects of the model with a few places left open.

What is left open is a table here: the key in `values.yaml`, the place in an object, the schema. So
the chart with its own values is the plain YAML, and what no key exists for cannot be set. The TTL
has none: the command, the grace of the Pod and the tolerations follow from it together, and no
template does that arithmetic. Generate the chart again instead.

A second replica of a mode of one is refused twice: by the schema, which `--skip-schema-validation`
leaves out, and by a template that fails.

How a place is left open: its value is replaced by a token, the object is written as YAML, and the
token becomes an expression. Braces that the user has written are made to mean themselves.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from incumbent.manifests import Object
from incumbent.manifests.marks import OWNER
from incumbent.manifests.model import Application
from incumbent.manifests.modes import summary
from incumbent.manifests.objects import objects_of
from incumbent.manifests.objects.guard import CLUSTER_WIDE, NAMESPACE
from incumbent.manifests.objects.labels import COMPANION, COMPONENT
from incumbent.manifests.objects.roles import CLUSTER_ROLES
from incumbent.manifests.render.kustomize import name_of_file
from incumbent.manifests.render.table import head
from incumbent.manifests.render.yaml import dumped, why

__all__ = ["files_of"]

_TOKEN = "incumbent-value-{}-"
_PLACE = re.compile(
    r"^(?P<before> *(?:- )?(?P<field>[^\s:]+): )incumbent-value-(?P<key>[^-]+)-(?P<after>\.\S+)?$"
)
_RELEASE = "namespace"
_QUANTITIES = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
_RESOURCES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
}
_TEXT = {"type": "string", "minLength": 1}


class Form(Enum):
    """How the expression is written that stands in a place."""

    TEXT = auto()
    NUMBER = auto()
    BLOCK = auto()
    OPTIONAL = auto()


@dataclass(frozen=True, slots=True)
class _Value:
    """One key of `values.yaml`."""

    default: Any
    schema: dict[str, Any]
    about: str
    form: Form = Form.TEXT


class _Chart:
    """Collects the values while the places in the objects are left open."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self.values: dict[str, _Value] = {}
        self.objects = copy.deepcopy(objects_of(app))
        for obj in self.objects:
            self._open(obj)

    def _leave(
        self,
        at: Object,
        field: str,
        key: str,
        schema: dict[str, Any],
        about: str,
        form: Form = Form.TEXT,
    ) -> None:
        self.values.setdefault(key, _Value(at.get(field, ""), schema, about, form))
        at[field] = _TOKEN.format(key)

    def _open(self, obj: Object) -> None:
        if obj["kind"] in CLUSTER_WIDE:
            self._open_guard(obj)
            return
        if obj["kind"] in CLUSTER_ROLES:
            self._open_cluster_role(obj)
            return
        obj["metadata"]["namespace"] = _TOKEN.format(_RELEASE)
        of = COMPANION if obj["metadata"]["labels"][COMPONENT] == COMPANION else ""
        match obj["kind"]:
            case "RoleBinding":
                for subject in obj["subjects"]:
                    subject["namespace"] = _TOKEN.format(_RELEASE)
            case "Deployment" | "StatefulSet":
                self._open_workload(obj, of)
            case "HorizontalPodAutoscaler":
                least = 1 if of else 2
                schema = {"type": "integer", "minimum": least}
                for field, about in (("minReplicas", "fewest"), ("maxReplicas", "most")):
                    key = _key(of, field)
                    self._leave(
                        obj["spec"], field, key, schema, f"The {about} replicas.", Form.NUMBER
                    )
        notes = obj["metadata"].get("annotations", {})
        if OWNER in notes:
            self._leave(notes, OWNER, "owner", _TEXT, "Whom to ask before it is moved.")

    def _open_guard(self, obj: Object) -> None:
        places = [(obj["metadata"], "name")]
        if "policyName" in obj["spec"]:
            places.append((obj["spec"], "policyName"))
            labels = obj["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
            labels[NAMESPACE] = _TOKEN.format(_RELEASE)
        for at, field in places:
            at[field] = _after_namespace(at[field])

    def _open_cluster_role(self, obj: Object) -> None:
        places = [obj["metadata"]]
        if "roleRef" in obj:
            places.append(obj["roleRef"])
            for subject in obj["subjects"]:
                subject["namespace"] = _TOKEN.format(_RELEASE)
        for at in places:
            at["name"] = _after_namespace(at["name"])

    def _open_workload(self, obj: Object, of: str) -> None:
        spec, single = obj["spec"], self._app.mode.single and not of
        pod = spec["template"]["spec"]
        container = pod["containers"][0]
        self._leave(container, "image", _key(of, "image"), _TEXT, "What runs; with a version.")
        self._leave(
            container,
            "imagePullPolicy",
            "imagePullPolicy",
            {"enum": ["Always", "IfNotPresent", "Never"]},
            "When the image is pulled.",
        )
        if "replicas" in spec:
            most = {"maximum": 1} if single else {}
            schema = {"type": "integer", "minimum": 0 if single else 1, **most}
            about = "One, or 0 to stop it. A second is refused." if single else "How many."
            self._leave(spec, "replicas", _key(of, "replicas"), schema, about, Form.NUMBER)
        about = "No limit of the CPU: it would make a takeover slow."
        self._leave(container, "resources", _key(of, "resources"), _RESOURCES, about, Form.BLOCK)
        about = "The name of a PriorityClass, or nothing."
        schema = {"type": "string"}
        self._leave(pod, "priorityClassName", "priorityClassName", schema, about, Form.OPTIONAL)
        if of:
            return
        field = "terminationGracePeriodSeconds"
        schema = {"type": "integer", "minimum": pod[field], "maximum": 86_400}
        about = "No less than the stop of the work needs."
        self._leave(pod, field, field, schema, about, Form.NUMBER)
        for toleration in pod["tolerations"]:
            self._leave(
                toleration,
                "tolerationSeconds",
                "tolerationSeconds",
                {"type": "integer", "minimum": 0},
                "How long a Pod stays bound to a node that is lost.",
                Form.NUMBER,
            )


def _after_namespace(name: str) -> str:
    """Return the name of what lies in no namespace, with that of the release in front."""
    _, dot, rest = name.partition(".")
    return f"{_TOKEN.format(_RELEASE)}{dot}{rest}"


def _key(of: str, field: str) -> str:
    return of + field[0].upper() + field[1:] if of else field


def files_of(app: Application) -> dict[str, str]:
    """Return text by path."""
    chart = _Chart(app)
    found = {
        "Chart.yaml": _about(app),
        "values.yaml": _values(app, chart.values),
        "values.schema.json": _schema(chart.values),
    }
    for obj in chart.objects:
        found[f"templates/{name_of_file(obj)}"] = f"# {why(obj)}\n{_template(obj, chart.values)}"
    if app.mode.single:
        found["templates/refused.yaml"] = _refused(app)
    return found


def _about(app: Application) -> str:
    version = app.image.rpartition(":")[2]
    chart = {
        "apiVersion": "v2",
        "name": app.name,
        "description": f"{app.name}, {app.mode}. {summary(app.mode)}",
        "type": "application",
        "version": "0.1.0",
        "appVersion": version,
    }
    return dumped(chart)


def _values(app: Application, values: dict[str, _Value]) -> str:
    text = head(app) + "#\n# There is no key for the TTL: so much follows from it that the chart is"
    text += " generated again.\n"
    for key, value in values.items():
        text += f"\n# {value.about}\n{dumped({key: value.default})}"
    return text


def _schema(values: dict[str, _Value]) -> str:
    properties = {
        key: {"description": value.about, **value.schema} for key, value in values.items()
    }
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "required": [key for key, value in values.items() if value.form != Form.OPTIONAL],
        "properties": {"global": {"type": "object"}, **properties},
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _template(obj: Object, values: dict[str, _Value]) -> str:
    text = dumped(obj).replace("{{", '{{ "{{" }}')
    return "".join(f"{_expressed(line, values)}\n" for line in text.splitlines())


def _expressed(line: str, values: dict[str, _Value]) -> str:
    place = _PLACE.match(line)
    if place is None or place["key"] not in {_RELEASE, *values}:
        return line
    before, key = place["before"], place["key"]
    if key == _RELEASE:
        if place["after"]:
            return f'{before}"{{{{ .Release.Namespace }}}}{place["after"]}"'
        return f"{before}{{{{ .Release.Namespace | quote }}}}"
    match values[key].form:
        case Form.NUMBER:
            return f"{before}{{{{ int .Values.{key} }}}}"
        case Form.BLOCK:
            indent = len(before) - len(before.lstrip(" -")) + 2
            return f"{before.rstrip()}\n{{{{ toYaml .Values.{key} | indent {indent} }}}}"
        case Form.OPTIONAL:
            return f"{{{{- with .Values.{key} }}}}\n{before}{{{{ . | quote }}}}\n{{{{- end }}}}"
        case Form.TEXT:
            return f"{before}{{{{ .Values.{key} | quote }}}}"


def _refused(app: Application) -> str:
    text = (
        f"{app.name} is {app.mode}: replicas must be 1, or 0 to stop it. To have standbys, "
        "generate the chart in mode active-standby"
    )
    return f'{{{{- if gt (int .Values.replicas) 1 }}}}\n{{{{- fail "{text}" }}}}\n{{{{- end }}}}\n'
