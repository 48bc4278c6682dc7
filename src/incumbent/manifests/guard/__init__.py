"""The guard: what the API server refuses to do to a workload that is marked as a singleton.

Nothing on the platform keeps anybody from asking for a second replica. A ValidatingAdmissionPolicy
can: it sees every request before it is carried out, runs inside of the API server, and needs no
Pod, certificate or webhook of its own.

Rules
-----
1. A workload is marked by the label `incumbent.dev/singleton: "true"` in
   `spec.selector.matchLabels`. A Scale carries no labels; what it shows of its workload is the
   selector, as a string in `status.selector`. So a selector of objects (`objectSelector`) would
   let each scale request pass, and a marker in the Pod template alone is refused.
2. Whether something is marked is judged by what is stored (`oldObject`), or by both.
3. Who is not concerned passes first: what selects the requests (a rule, `objectSelector`,
   `matchConditions`) is written so that it cannot fail on any object, and asks for the mark.
4. What leads away from two is never refused: scaling down, and any change of a workload that was
   beyond one before the guard came, if it makes nothing worse. So what is compared is the object
   before and after, and what is to be deleted can lose its finalizers.
5. `failurePolicy: Fail`. A policy runs in the API server, so there is no outage of a webhook to
   weigh it against. What is left is an object that an expression cannot read; by rule 3 it is a
   marked one, and for that two are worse than an error message.
6. Whom to let pass is asked by user and group. The kubelet (group `system:nodes`) ends each
   deletion with a grace period of 0, when the containers have stopped; without it no Pod would
   ever be gone. The Pod garbage collector does so for nodes that are gone or declared
   out of service, where nobody can know; it passes unless `Settings.pod_gc` is false.

Warnings
--------
- A policy sees one request and no other object. It counts nothing: a second workload with the
  mark, or a Deployment that replaces a deleted Pod while that one ends, it cannot see. The quota
  (`quota`) can, for a price.
- Whoever may delete a binding can do everything again. The guard is for mistakes.
- An Eviction shows neither labels nor the Pod, so what forces an eviction is refused for all Pods
  of a namespace, and only in namespaces that ask for it.

Each module here has the reasons for its own rules.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.guard.evictions import evictions
from incumbent.manifests.guard.pods import pods
from incumbent.manifests.guard.policy import objects_of
from incumbent.manifests.guard.quota import quota
from incumbent.manifests.guard.scale import scale
from incumbent.manifests.guard.settings import Settings
from incumbent.manifests.guard.workloads import workloads

__all__ = ["Settings", "policies", "quota"]


def policies(settings: Settings | None = None) -> list[Object]:
    """Return the policies and their bindings, in the order in which to apply them.

    Raises:
        ConfigError: a setting that the API server would refuse, or that would guard nothing.
    """
    settings = settings or Settings()
    settings.check()
    made = (scale(), workloads(settings), pods(settings), evictions(settings))
    return objects_of(made, settings)
