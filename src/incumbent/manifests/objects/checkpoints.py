"""The right to note how far the work has come, for work whose checkpoints are Leases.

A checkpoint is a Lease beside that of the election. Its name is known, so `get` and `update` are
limited to it. It is made when something is noted for the first time, and that takes `create`, which
no rule can limit to a name: with it a replica could make any Lease of the namespace that is not
there, and change none of them. So it is given only where checkpoints were asked for
(`Application.checkpoints`). Who must not have it keeps the checkpoints in another store (`state=`).

Periodic tasks look for the orders of operators, and never write them: `get` is all that they need
of those. There is no `delete`, no `list` and no `watch`: `incumbent runs` and the commands that
order something run with the rights of whoever types them.
"""

from __future__ import annotations

from collections.abc import Iterable

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.roles import role
from incumbent.stores.kubernetes.checkpoints import lease_name
from incumbent.stores.kubernetes.resource import LEASES

__all__ = ["checkpoint_rights"]

_TASK = "job."
_ORDERS = "orders"


def checkpoint_rights(app: Application) -> list[Object]:
    """Return the Role and its binding; nothing for work that keeps no checkpoints here."""
    written = sorted(set(app.parts) - {_ORDERS})
    if not app.parts:
        return []
    rules = [_rule(app, written, "get", "update")] if written else []
    if _ORDERS in app.parts or any(part.startswith(_TASK) for part in written):
        rules.append(_rule(app, [_ORDERS], "get"))
    if written:
        rules.append(_rule(app, [], "create"))
    return role(app, f"{app.name}-checkpoints", rules)


def _rule(app: Application, parts: Iterable[str], *verbs: str) -> Object:
    names = [lease_name(app.election, part) for part in parts]
    return {
        "apiGroups": [LEASES.group],
        "resources": [LEASES.plural],
        **({"resourceNames": names} if names else {}),
        "verbs": list(verbs),
    }
