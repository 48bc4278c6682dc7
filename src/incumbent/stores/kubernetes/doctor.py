"""What `incumbent doctor` looks at here: the server, the namespace, and every right by itself.

The rights are asked of the server (SelfSubjectAccessReview), without touching any object. The fix
is YAML to paste under `rules:` of a Role.
"""

from __future__ import annotations

import asyncio

from incumbent.errors import PermissionDenied, StoreError
from incumbent.stores.api import Finding, unreached
from incumbent.stores.kubernetes import rbac
from incumbent.stores.kubernetes.api import NotFound, ObjectApi

__all__ = ["asked", "examine"]

_SLOW_S = 1.0


async def examine(api: ObjectApi, name: str = "", rights: rbac.Rights = rbac.EACH) -> list[Finding]:
    """Return the findings; with a `name`, rights limited to that object count too."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        version = await api.server_version()
        began = loop.time()
        await api.server_version()
    except StoreError as error:
        return [unreached(error)]
    took_s = loop.time() - began
    return [
        Finding("reachable", True, f"{api.url} answers"),
        Finding("version", True, f"Kubernetes {version}"),
        Finding(
            "round trip",
            took_s < _SLOW_S,
            f"{took_s * 1000:.1f} ms",
            "" if took_s < _SLOW_S else "use a longer TTL: a renewal needs several round trips",
        ),
        await _namespace(api),
        *await _definition(api),
        *await asked(api, name, rights),
    ]


async def _namespace(api: ObjectApi) -> Finding:
    fix = f"kubectl create namespace {api.namespace}"
    try:
        found = await api.namespace_found()
    except PermissionDenied:
        text = f"{api.namespace!r}: we may not look, and need not"
        return Finding("namespace", None, text)
    except StoreError as error:
        return Finding("namespace", None, str(error))
    if found:
        return Finding("namespace", True, f"{api.namespace!r} exists")
    return Finding("namespace", False, f"{api.namespace!r} does not exist", fix)


async def _definition(api: ObjectApi) -> list[Finding]:
    """Look whether the server knows a resource that is not Kubernetes' own."""
    what = api.resource
    if not what.definition:
        return []
    try:
        found = await api.resource_found()
    except StoreError as error:
        return [Finding("resource", None, str(error))]
    if found:
        return [Finding("resource", True, f"{what.full_name} is defined")]
    fix = f"kubectl apply -f - <<END\n{what.definition}END"
    return [Finding("resource", False, f"{what.full_name} is not defined", fix)]


async def asked(api: ObjectApi, name: str, rights: rbac.Rights) -> list[Finding]:
    """Ask for every right by itself."""
    findings = []
    for verb in (*rights.needed, *rights.optional):
        plural = api.resource.plural
        of = f"{plural} {name!r}" if name and verb != "create" else plural
        check = f"right to {verb}"
        try:
            allowed = await api.allowed(verb, "" if verb == "create" else name)
        except (StoreError, NotFound) as error:
            findings.append(Finding(check, None, str(error)))
            continue
        if allowed:
            text = f"may {verb} {of} in {api.namespace!r}"
            findings.append(Finding(check, True, text))
        else:
            optional = verb in rights.optional
            text = f"may not {verb} {of} in {api.namespace!r}"
            if verb == "create" and name and await _is_there(api, name):
                text = f"{text}, and need not: {name!r} is there"
                findings.append(Finding(check, None, text))
                continue
            if optional:
                text += f"; {rights.why}"
            elif not name and rights.by_name:
                text += "; a right limited to a name does not show here: give the name"
            fix = rbac.role((verb,), name, api.resource)
            findings.append(Finding(check, None if optional else False, text, fix))
    return findings


async def _is_there(api: ObjectApi, name: str) -> bool:
    try:
        await api.get(name)
    except (StoreError, NotFound):
        return False
    return True
