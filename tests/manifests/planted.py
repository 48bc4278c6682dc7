"""Mistakes in the guard, and the test on a real API server that finds each.

They are tried like those of `tests.simulator.mutants`. Nothing of incumbent is imported here: who
tries a mistake has to be able to plant it first.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED"]

GUARD = "incumbent.manifests.guard"
POLICY = f"{GUARD}.policy"
SCALE = f"{GUARD}.scale"
WORKLOADS = f"{GUARD}.workloads"
PODS = f"{GUARD}.pods"
EVICTIONS = f"{GUARD}.evictions"

_TESTS = "tests/manifests/test_guard.py::test_"
_OF_CONTROLLERS = "tests/manifests/test_guard_controllers.py::test_"
_SHUT = f"{_TESTS}the_guard_keeps_it_shut"
_GOES_ON = f"{_TESTS}what_makes_no_second_one_goes_on"
_UNMARKED = f"{_TESTS}what_is_not_marked_goes_through"

PLANTED: tuple[Mutant, ...] = (
    planted(
        "guard: scale requests are selected by labels, which they do not have",
        SCALE,
        '        conditions={"marked": _MARKED},\n',
        '        labels={SINGLETON: "true"},\n',
        test=f"{_SHUT}[PATCH scale Deployment]",
    ),
    planted(
        "guard: the scale of Deployments alone",
        SCALE,
        'rule("*", ["*/scale"], "UPDATE")',
        'rule("apps", ["deployments/scale"], "UPDATE")',
        test=f"{_SHUT}[PATCH scale ReplicationController]",
    ),
    planted(
        "guard: all resources, which leaves out what is below them",
        SCALE,
        'rule("*", ["*/scale"], "UPDATE")',
        'rule("*", ["*"], "UPDATE")',
        test=f"{_SHUT}[PATCH scale StatefulSet]",
    ),
    planted(
        "guard: a selector is read in the way the API server writes it alone",
        SCALE,
        '.replace(" ", "").replace("==", "=")',
        "",
        test=f"{_TESTS}the_mark_is_read_however_an_operator_writes_it",
    ),
    planted(
        "guard: the autoscaler is a controller, and controllers are trusted",
        SCALE,
        '        conditions={"marked": _MARKED},\n',
        '        conditions={"marked": _MARKED, "by-people": \'!request.userInfo.username\'\n'
        "            '.contains(\"horizontal-pod-autoscaler\")'},\n",
        test=f"{_OF_CONTROLLERS}the_autoscaler_itself_is_refused_and_says_why[Deployment-guarded]",
    ),
    planted(
        "guard: an eviction with no time left is a drain's, and drains are let pass",
        EVICTIONS,
        "gracePeriodSeconds.orValue(30) != 0",
        "gracePeriodSeconds.orValue(30) != 1",
        test=f"{_OF_CONTROLLERS}a_drain_without_grace_makes_two_and_is_refused[evicts-guarded]",
    ),
    planted(
        "guard: every scale request is judged",
        SCALE,
        '        conditions={"marked": _MARKED},\n',
        "",
        test=f"{_UNMARKED}[PATCH scale Deployment]",
    ),
    planted(
        "guard: what has three replicas cannot come down to two",
        SCALE,
        'any_of("variables.replicas <= 1", "variables.replicas <= variables.before")',
        '"variables.replicas <= 1"',
        test=f"{_TESTS}what_was_beyond_one_can_come_down_and_not_go_up",
    ),
    planted(
        "guard: an older ReplicaSet is scaled up beside the present one",
        SCALE,
        "'!variables.selector.contains(\"pod-template-hash=\")'",
        "'!variables.selector.contains(\"revision=\")'",
        test=f"{_SHUT}[scale up an older revision]",
    ),
    planted(
        "guard: ReplicationControllers have their selector elsewhere",
        WORKLOADS,
        "  ? {which}.?spec.?selector{mark}\n",
        "  ? {which}.?spec.?selector.?matchLabels{mark}\n",
        test=f"{_SHUT}[PATCH ReplicationController]",
    ),
    planted(
        "guard: workloads are known by the label of their Pods alone",
        WORKLOADS,
        'Check(any_of("variables.is", "variables.was", _labels("oldObject")), _HALF',
        'Check(any_of("true", "variables.was", _labels("oldObject")), _HALF',
        test=f"{_SHUT}[marked in the template only]",
    ),
    planted(
        "guard: a ReplicationController loses its mark",
        WORKLOADS,
        'any_of("variables.is", "!variables.was")',
        '"true"',
        test=f"{_SHUT}[the mark taken out of a ReplicationController]",
    ),
    planted(
        "guard: a rolling update may be switched on later",
        WORKLOADS,
        "'(variables.strategyBefore != \"Recreate\" && variables.sameTemplate)'",
        '"variables.sameTemplate"',
        test=f"{_SHUT}[PATCH to a rolling update]",
    ),
    planted(
        "guard: nobody may change anything of what was there before",
        WORKLOADS,
        "'(variables.strategyBefore != \"Recreate\" && variables.sameTemplate)'",
        '"false"',
        test=f"{_TESTS}what_was_beyond_one_can_come_down_and_not_go_up",
    ),
    planted(
        "guard: a StatefulSet may begin with another ordinal",
        WORKLOADS,
        '            "variables.isEmpty",\n',
        '            "variables.replicas == 1",\n',
        test=f"{_SHUT}[PATCH the first ordinal]",
    ),
    planted(
        "guard: the controller of Deployments is refused a roll-back",
        WORKLOADS,
        '            *(f"request.userInfo.username == {quoted(user)}" for user in CONTROLLERS),\n',
        "",
        test=f"{_GOES_ON}[the controller of Deployments scales an older revision up]",
    ),
    planted(
        "guard: the kubelet is refused to finish a deletion",
        PODS,
        '"system:nodes" in request',
        '"system:masters" in request',
        test=f"{_GOES_ON}[the kubelet finishes a deletion]",
    ),
    planted(
        "guard: the garbage collector is refused although it is exempt",
        f"{GUARD}.settings",
        "(POD_GC,) if self.pod_gc else ()",
        "(POD_GC,) if not self.pod_gc else ()",
        test=f"{_GOES_ON}[the garbage collector forces]",
    ),
    planted(
        "guard: only the request says how long a Pod has to end",
        PODS,
        "gracePeriodSeconds.orValue(variables.ownGrace)",
        "gracePeriodSeconds.orValue(30)",
        test=f"{_SHUT}[delete a collection that has no grace]",
    ),
    planted(
        "guard: what has no node yet cannot be deleted",
        PODS,
        '\'oldObject.?spec.?nodeName.orValue("") == ""\'',
        '"false"',
        test=f"{_GOES_ON}[delete what has no node yet]",
    ),
    planted(
        "guard: the status is nobody's concern",
        PODS,
        '            rule("", ["pods/status"], "UPDATE"),\n',
        "",
        test=f"{_SHUT}[call it Failed]",
    ),
    planted(
        "guard: the mark alone has to stay on a Pod",
        PODS,
        "key in [{quoted(ROLE)}, {quoted(LET_GO)}]",
        "key != {quoted(SINGLETON)}",
        test=f"{_SHUT}[take a label off]",
    ),
    planted(
        "guard: an eviction is not asked how much time it leaves",
        EVICTIONS,
        "gracePeriodSeconds.orValue(30) != 0",
        "gracePeriodSeconds.orValue(30) >= 0",
        test=f"{_SHUT}[force by an eviction of v1]",
    ),
    planted(
        "guard: evictions are judged in every namespace",
        EVICTIONS,
        '        namespaces={GUARD: "enforce"},\n',
        "",
        test=f"{_TESTS}by_default_all_namespaces_are_guarded_but_for_evictions",
    ),
    planted(
        "guard: that of one application is for the whole cluster",
        "incumbent.manifests.objects.guard",
        "namespaces={NAMESPACE: app.namespace}",
        "namespaces=None",
        test=f"{_TESTS}the_guard_of_one_application_guards_its_namespace_and_no_other",
    ),
    planted(
        "guard: a warning refuses",
        POLICY,
        '["Warn", "Audit"] if settings.warn else ["Deny"]',
        '["Deny"]',
        test=f"{_TESTS}kubectl_shows_the_warning_where_nothing_is_refused",
    ),
)
