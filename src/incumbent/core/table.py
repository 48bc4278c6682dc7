"""The law of the elector, as a table: for each state, which events count, and what may follow.

An event that is not listed for a state is ignored in it: it is a late reply or a stale notice.
What the elector does on the way is in `core.elector`, which checks at every step that it goes
nowhere else. The diagram in the documentation is drawn from this table.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from incumbent.core import events as ev

__all__ = ["TABLE", "State"]


class State(Enum):
    """Where a candidate is."""

    NEW = "new"
    LOOKING = "looking"
    STANDBY = "standby"
    TAKING = "taking"
    DOUBT = "doubt"
    LEADING = "leading"
    STOPPING = "stopping"
    STUCK = "stuck"
    RELEASING = "releasing"
    CLOSED = "closed"


_S = State
_AFTER_TERM = (_S.LOOKING, _S.CLOSED)
_AFTER_LOOK = (_S.STANDBY, _S.TAKING)

TABLE: dict[State, dict[type[Any], tuple[State, ...]]] = {
    _S.NEW: {
        ev.Start: (_S.LOOKING,),
        ev.Close: (_S.CLOSED,),
    },
    _S.LOOKING: {
        ev.Seen: (*_AFTER_LOOK, _S.LOOKING),
        ev.LookFailed: (_S.LOOKING,),
        ev.Tick: (_S.LOOKING,),
        ev.Close: (_S.CLOSED,),
    },
    _S.STANDBY: {
        ev.Seen: _AFTER_LOOK,
        ev.Evidence: (_S.STANDBY, _S.TAKING),
        ev.Tick: (_S.STANDBY, _S.TAKING),
        ev.Close: (_S.CLOSED,),
    },
    _S.TAKING: {
        ev.Seen: (_S.TAKING,),
        ev.TakeDone: (_S.LEADING, _S.RELEASING, *_AFTER_TERM, _S.TAKING),
        ev.TakeRefused: (*_AFTER_LOOK, _S.CLOSED),
        ev.TakeFailed: (_S.STANDBY, _S.TAKING, _S.CLOSED),
        ev.TakeNotSent: (_S.STANDBY, _S.TAKING, _S.CLOSED),
        ev.TakeUnknown: (_S.DOUBT,),
        ev.Close: (_S.TAKING,),
    },
    _S.DOUBT: {
        ev.Seen: (_S.DOUBT,),
        ev.ReadBackDone: (*_AFTER_LOOK, _S.LEADING, _S.RELEASING, *_AFTER_TERM, _S.DOUBT),
        ev.ReadBackFailed: (_S.DOUBT, _S.CLOSED),
        ev.Tick: (_S.DOUBT,),
        ev.Close: (_S.DOUBT,),
    },
    _S.LEADING: {
        ev.Seen: (_S.LEADING, _S.STOPPING),
        ev.LeaseExpiring: (_S.STOPPING,),
        ev.LeaseFailing: (_S.STOPPING,),
        ev.LeaseRevoked: (_S.STOPPING,),
        ev.StepDown: (_S.STOPPING,),
        ev.WorkEnded: (_S.RELEASING, *_AFTER_TERM),
        ev.Close: (_S.STOPPING,),
    },
    _S.STOPPING: {
        ev.Seen: (_S.STOPPING,),
        ev.LeaseFailing: (_S.STOPPING,),
        ev.LeaseRevoked: (_S.STOPPING,),
        ev.WorkEnded: (_S.RELEASING, *_AFTER_TERM),
        ev.Tick: (_S.STOPPING, _S.STUCK),
        ev.Close: (_S.STOPPING,),
    },
    _S.STUCK: {
        ev.Seen: (_S.STUCK,),
        ev.LeaseRevoked: (_S.STUCK,),
        ev.WorkEnded: _AFTER_TERM,
        ev.Close: (_S.STUCK,),
    },
    _S.RELEASING: {
        ev.ReleaseDone: (*_AFTER_LOOK, _S.CLOSED, _S.RELEASING),
        ev.ReleaseFailed: (_S.RELEASING, *_AFTER_TERM),
        ev.Tick: (_S.RELEASING, *_AFTER_TERM),
        ev.Close: (_S.RELEASING,),
    },
    _S.CLOSED: {},
}
