"""Mistakes in what a Kubernetes store does about Pods, addresses and deaths, and what finds each.

They are tried as those of `planted` are, by a test on the real API server.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED_LIVE"]

DEATHS = "incumbent.stores.kubernetes.deaths"
LABEL = "incumbent.stores.kubernetes.label"
SLICES = "incumbent.stores.kubernetes.slices"
STORE = "incumbent.stores.kubernetes.store"
WATCH = "incumbent.core.watch"
WIRE = "incumbent.stores.kubernetes.wire"

_DEATHS = "tests/stores/test_kubernetes_deaths.py::"
_SILENCE = f"{_DEATHS}test_everything_else_is_silence"
_LABEL = "tests/stores/test_kubernetes_label.py::"
_SLICES = "tests/stores/test_kubernetes_slices.py::"

PLANTED_LIVE: tuple[Mutant, ...] = (
    # -- evidence of death
    planted(
        "deaths: the UID of the Pod does not matter",
        DEATHS,
        '    if not uid or (metadata.get("name"), metadata.get("uid")) != (name, uid):\n',
        '    if not uid or metadata.get("name") != name:\n',
        test=f"{_SILENCE}[another Pod of this name]",
    ),
    planted(
        "deaths: whichever container of the Pod ended",
        DEATHS,
        '        if line_of(candidacy) in str(ended.get("message", "")).splitlines():\n',
        "        if ended:\n",
        test=f"{_SILENCE}[the next instance runs, and the one before was another]",
    ),
    planted(
        "deaths: a message that mentions it",
        DEATHS,
        '        if line_of(candidacy) in str(ended.get("message", "")).splitlines():\n',
        '        if line_of(candidacy) in str(ended.get("message", "")):\n',
        test=f"{_SILENCE}[within a line]",
    ),
    planted(
        "deaths: a kubelet that does not know is believed",
        DEATHS,
        '        if not ended or ended.get("reason") not in WAITED_FOR or ',
        "        if not ended or ",
        test=f"{_SILENCE}[the kubelet lost it]",
    ),
    planted(
        "deaths: a container that the runtime has lost has ended",
        DEATHS,
        " or not _waited_for(ended):\n",
        ":\n",
        test=f"{_SILENCE}[the runtime killed it, and did not wait]",
    ),
    planted(
        "deaths: every exit code but that of a lost one is an end",
        DEATHS,
        "not isinstance(code, bool) and code in ENDED_WITH\n",
        "not isinstance(code, bool) and code != 255\n",
        test=f"{_SILENCE}[an exit code that no process has]",
    ),
    planted(
        "deaths: the Pod's processes live on in its namespace",
        DEATHS,
        ' or spec.get("shareProcessNamespace")',
        "",
        test=f"{_SILENCE}[processes of the Pod]",
    ),
    planted(
        "deaths: the node's processes are the container's",
        DEATHS,
        '    if spec.get("hostPID") or ',
        "    if ",
        test=f"{_SILENCE}[processes of the node]",
    ),
    planted(
        "deaths: every runtime is one that was tried",
        DEATHS,
        ' or spec.get("runtimeClassName"):\n',
        ":\n",
        test=f"{_SILENCE}[a runtime of its own]",
    ),
    planted(
        "deaths: what somebody printed is the message",
        DEATHS,
        '            if policies.get(each.get("name")) == "File" and _ended(each, candidacy):\n',
        '            if each.get("name") in policies and _ended(each, candidacy):\n',
        test=f"{_SILENCE}[a message from the log]",
    ),
    planted(
        "deaths: any name of a host is one of a Pod",
        DEATHS,
        "    if not uid or (metadata",
        "    if (metadata",
        "incumbent.stores.kubernetes.pods",
        '    return (name, uid) if _UID.fullmatch(uid) and rest != uid else (name, "")\n',
        "    return (name, uid)\n",
        test=f"{_DEATHS}test_an_identity_that_names_no_pod_for_certain_is_never_proven_dead[a_UID]",
    ),
    planted(
        "deaths: a holder says nothing",
        STORE,
        "            self._deaths.announce(claim.term)\n",
        "            pass\n",
        test=f"{_DEATHS}test_a_holder_says_who_it_is_before_it_holds",
    ),
    planted(
        "deaths: a Pod that is gone is dead",
        DEATHS,
        "        watched.proof = proof_of_death(change.object, watched.candidacy)\n",
        "        gone = change.kind is Kind.DELETED\n"
        "        watched.proof = WHY if gone else "
        "proof_of_death(change.object, watched.candidacy)\n",
        test=f"{_DEATHS}test_a_pod_that_is_gone_is_silence",
    ),
    planted(
        "deaths: evidence is about whoever holds now",
        DEATHS,
        "        if wanted != known:\n",
        "        if wanted is not None and known is not None:\n"
        "            self._keys[name] = wanted\n"
        "        elif wanted != known:\n",
        test=f"{_DEATHS}test_evidence_is_about_the_term_that_was_held_then",
    ),
    planted(
        "deaths: a person's word voids whatever holds by then",
        STORE,
        "            written = await self._swap(over.name, over, change)\n"
        "        except Refused:\n",
        "            now = await self.read(over.name)\n"
        "            written = await self._swap(over.name, now, change)\n"
        "        except Refused:\n",
        test="tests/cli/test_assert_death.py::test_the_very_version_is_swapped",
    ),
    planted(
        "deaths: whoever vacated it, the person's word did",
        WIRE,
        "return not holder and self.notes(obj).get(VOIDED_KEY) == mark\n",
        "return not holder\n",
        test="tests/cli/test_assert_death.py::test_another_vacancy_is_not_taken_for_ours",
    ),
    planted(
        "deaths: whichever instance of the container ended, in histories",
        DEATHS,
        '        if line_of(candidacy) in str(ended.get("message", "")).splitlines():\n',
        "        if ended:\n",
        store="kubernetes-evidence",
    ),
    planted(
        "deaths: a kubelet that does not know is believed, in histories",
        DEATHS,
        '        if not ended or ended.get("reason") not in WAITED_FOR or ',
        "        if not ended or ",
        store="kubernetes-evidence",
    ),
    planted(
        "deaths: a container that the runtime has lost has ended, in histories",
        DEATHS,
        " or not _waited_for(ended):\n",
        ":\n",
        store="kubernetes-evidence",
    ),
    # -- the label
    planted(
        "label: it is taken off after the release",
        STORE,
        "            await self._label.ended(held.name)\n",
        "            pass\n",
        test=f"{_LABEL}test_it_comes_after_the_term_and_goes_before_the_release",
    ),
    planted(
        "label: the successor lets the last holder keep it",
        LABEL,
        "        if (ours and self._owed) or (self._holding and place == self._held):\n",
        "        if ours and self._owed:\n",
        test=f"{_LABEL}test_the_successor_takes_it_off_who_died",
    ),
    planted(
        "label: what others carried before is not looked at",
        LABEL,
        "until now.\n            self._labelled = False\n            self._look_again()\n",
        "until now.\n            self._labelled = False\n",
        test=f"{_LABEL}test_the_successor_takes_it_off_who_died",
    ),
    planted(
        "label: that of every election is taken off",
        LABEL,
        "        if gone or place not in self._names:\n",
        "        if gone:\n",
        LABEL,
        "        if (ours and self._owed) or (self._holding and place == self._held):\n",
        "        if (ours and self._owed) or self._holding:\n",
        test=f"{_LABEL}test_the_active_pod_of_another_election_is_left_alone",
    ),
    planted(
        "label: who holds is a flag",
        LABEL,
        "        return bool(self._held) and self._clock() < self._until\n",
        "        return bool(self._held)\n",
        test=f"{_LABEL}test_who_wakes_from_a_pause_mends_nothing",
    ),
    planted(
        "label: who was not confirmed keeps it",
        LABEL,
        "        if self._held and not self._holding:\n",
        "        if not self._held:\n",
        test=f"{_LABEL}test_what_nobody_confirmed_for_a_ttl_is_taken_off",
    ),
    planted(
        "label: two in a Pod take it from one another for ever",
        LABEL,
        "            self._owed -= 1\n",
        "            pass\n",
        test=f"{_LABEL}test_two_candidates_in_a_pod_leave_it_in_peace",
    ),
    planted(
        "label: a removal during a set is not heard",
        LABEL,
        "                self._unset = True\n",
        "                pass\n",
        test=f"{_LABEL}test_a_removal_that_is_heard_of_during_a_set_counts",
    ),
    planted(
        "label: a release waits for it",
        LABEL,
        "            async with asyncio.timeout(min(PATIENCE_S, self._ttl_s * SHARE)):\n",
        "            async with asyncio.timeout(60):\n",
        test=f"{_LABEL}test_a_silent_server_delays_no_release",
    ),
    # -- lock and address in one object
    planted(
        "slices: a take leaves the address of the last holder",
        SLICES,
        "        return self._pointing(super().taken(obj, claim, wall_s))\n",
        "        return super().taken(obj, claim, wall_s)\n",
        test=f"{_SLICES}test_the_address_comes_and_goes_with_the_lock",
    ),
    planted(
        "slices: a take adds an address",
        SLICES,
        '        return {**obj, "endpoints": [endpoint]}\n',
        '        others = [e for e in obj.get("endpoints") or () if e["addresses"] != '
        '[self._address]]\n        return {**obj, "endpoints": [*others, endpoint]}\n',
        test=f"{_SLICES}test_the_address_comes_and_goes_with_the_lock",
    ),
    planted(
        "slices: a release leaves the address",
        SLICES,
        '        return {**super().released(obj, successor, wall_s), "endpoints": []}\n',
        "        return super().released(obj, successor, wall_s)\n",
        test=f"{_SLICES}test_the_address_comes_and_goes_with_the_lock",
    ),
    planted(
        "slices: a bar leaves the address",
        SLICES,
        '        return {**super().barred(obj, bar, wall_s), "endpoints": []}\n',
        "        return super().barred(obj, bar, wall_s)\n",
        test=f"{_SLICES}test_a_renewal_says_it_again_and_a_request_does_not",
    ),
    planted(
        "slices: a record that was taken away is vacant",
        SLICES,
        "            holding=Holding.FOREIGN if why else Holding.ABSENT,\n",
        "            holding=Holding.FOREIGN if why else Holding.VACANT,\n",
        test=f"{_SLICES}test_a_record_that_was_taken_away_is_an_absence",
    ),
    planted(
        "slices: that of another controller is taken",
        SLICES,
        "        return _not_ours(obj)\n\n    def without",
        '        return ""\n\n    def without',
        test=f"{_SLICES}test_a_slice_of_another_manager_is_left_alone",
    ),
)
