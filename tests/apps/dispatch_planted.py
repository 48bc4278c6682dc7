"""Mistakes in what Celery's beat sends, which the seeded histories have to find.

Nothing of incumbent is imported here: who tries a mistake has to be able to plant it first.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED"]

DISPATCH = "incumbent.apps.celery.dispatch"
_HISTORIES = "tests/apps/test_dispatch.py::test_histories"
_SEND = "await self._env.call(self._entries.send, name, note, self._env.term.token)"

PLANTED: tuple[Mutant, ...] = (
    planted(
        "beat: a task is sent before its claim is written",
        DISPATCH,
        "        if due:\n            await self._progress.save(encode(self._notes))\n",
        "",
        test=_HISTORIES,
    ),
    planted(
        "beat: each attempt has an id of its own",
        DISPATCH,
        "                note = self._notes.pop(name)\n",
        "                note = replace(self._notes.pop(name), message=str(uuid4()))\n",
        test=_HISTORIES,
    ),
    planted(
        "beat: what was sent is not noted",
        DISPATCH,
        "            if sent:\n",
        "            if sent and self._on_its_way():\n",
        test=_HISTORIES,
    ),
    planted(
        "beat: a planned end cuts off what is being sent",
        DISPATCH,
        "await _uncut(self._dispatch(due))",
        "await self._dispatch(due)",
        test=_HISTORIES,
    ),
    planted(
        "beat: a successor counts from the beginning",
        DISPATCH,
        "self._entries.take_over, noted)",
        "self._entries.take_over, {})",
        test=_HISTORIES,
    ),
    planted(
        "beat: a tick is claimed while the last one is on its way",
        DISPATCH,
        "[name for name in due if not self._notes[name].message]",
        "list(due)",
        test=_HISTORIES,
    ),
    planted(
        "beat: what the broker refused counts as sent",
        DISPATCH,
        f"                if not {_SEND}:\n                    break\n",
        f"                {_SEND}\n",
        test=_HISTORIES,
    ),
)
