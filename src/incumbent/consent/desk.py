"""From a question to an answer: see, decide, write it down, and only then say it.

Rules
-----
1. There is always an answer, and it is yes or 429, in the time that the API server leaves for it.
2. A yes that has to be written down first is said after the write was confirmed. Nobody knows
   whether it was written? Then it is read back by the uid of the question, which the write has in
   it. Is that not to be had in time, it is not yet: the consent may be used up then, and is asked
   for once more, which is the harmless way round.
3. A refused write means that the Pod has changed: it is looked at again, and decided anew.
4. A *not yet* does not wait for its record. Without it an expiry does not begin to run.
5. What could not be looked at at all is answered as the installation has chosen for the time in
   which nobody is there, its `failurePolicy`: with `Ignore` yes, so that the budget decides, and
   with `Fail` not yet. The API server that asks us is the one that we cannot read, so this is rare
   and short, or it is a right that is missing; the latter must not keep every Pod of a namespace
   from being evicted, the ordinary ones above all, unless somebody has chosen that.
6. A Pod that is not there passes: the API server says so itself, and a drain is content with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from incumbent.audit.objects import Object, at, strings
from incumbent.consent.decision import Asked, Rules, Sight, Verdict, Why, decide
from incumbent.consent.pods import write
from incumbent.consent.review import Unreadable, answer, asked_of, not_yet
from incumbent.consent.sight import see
from incumbent.errors import IncumbentError, OutcomeUnknown
from incumbent.manifests import marks
from incumbent.stores.kubernetes.api import Conflict, NotFound
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import PODS

__all__ = ["Desk", "Heard"]

_log = logging.getLogger("incumbent.consent")

ATTEMPTS = 5

Heard = Callable[[Asked, Sight | None, Verdict], None]
"""Hears of each decision, before it is said."""


@dataclass(slots=True)
class _Case:
    """How far one question has come."""

    asked: Asked
    sight: Sight | None = None
    verdict: Verdict | None = None


class Desk:
    """Answers questions.

    Args:
        client: reaches the API server; each question names its namespace.
        rules: what the installation has chosen.
        refuse_unseen: whether what cannot be looked at has to wait (`failurePolicy: Fail`).
        now: what time it is.
        heard: hears of each decision.
    """

    def __init__(
        self,
        client: Client,
        rules: Rules,
        *,
        refuse_unseen: bool,
        now: Callable[[], datetime],
        heard: Heard,
    ) -> None:
        self._client, self._rules = client, rules
        self._refuse_unseen = refuse_unseen
        self._now, self._heard = now, heard

    async def answer(self, body: bytes, limit_s: float) -> Object:
        """Return the answer to a question, as an AdmissionReview."""
        try:
            asked = asked_of(body)
        except Unreadable as error:
            text = f"the question cannot be understood: {error}"
            return answer(error.review, not_yet(Why.UNABLE, text))
        case = _Case(asked)
        try:
            async with asyncio.timeout(limit_s):
                verdict = await self._decide(case)
        except TimeoutError:
            verdict = self._undecided(case, f"no answer of the API server within {limit_s:g} s")
        except IncumbentError as error:
            verdict = self._undecided(case, str(error))
        except Exception as error:  # An answer that does not come would be an error 500 of a drain.
            _log.exception("deciding on Pod %s/%s", asked.namespace, asked.name)
            verdict = self._undecided(case, repr(error))
        try:
            self._heard(asked, case.sight, verdict)
        except Exception:  # What is written by then counts, and must be said.
            _log.exception("no trail of the decision on Pod %s/%s", asked.namespace, asked.name)
        return answer(asked.review, verdict)

    async def _decide(self, case: _Case) -> Verdict:
        asked = case.asked
        client = self._client.beside(PODS, asked.namespace)
        for _ in range(ATTEMPTS):
            try:
                sight = await see(client, asked, self._now())
                if case.verdict is not None and _wrote(sight, asked):
                    return case.verdict
                case.sight = sight
                case.verdict = decide(asked, sight, self._rules, self._now())
                if case.verdict.change:
                    await write(client, sight.pod, case.verdict.change)
            except NotFound:
                return Verdict(True, Why.UNKNOWN_POD, "there is no such Pod")
            except (Conflict, OutcomeUnknown):
                continue
            return case.verdict
        return self._undecided(case, "the Pod changes all the time")

    def _undecided(self, case: _Case, cause: str) -> Verdict:
        verdict = case.verdict
        if verdict is None:
            text = f"Pod {case.asked.name} could not be looked at: {cause}"
            if self._refuse_unseen:
                return not_yet(Why.UNABLE, text)
            return Verdict(True, Why.UNABLE, f"{text}; its budget decides")
        if not verdict.allowed:
            return replace(verdict, text=f"{verdict.text} (not recorded: {cause})")
        text = f"Pod {case.asked.name} may go, but that could not be written down: {cause}"
        return not_yet(Why.UNABLE, text)


def _wrote(sight: Sight, asked: Asked) -> bool:
    """Tell whether the Pod was let go for this very question."""
    told = strings(at(sight.pod, "metadata", "annotations")).get(marks.LET_GO_FOR, "")
    return told.partition(" ")[2] == asked.review
