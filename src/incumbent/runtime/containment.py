"""What holds a tree of processes together on this host, and how well: in words, to be printed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

__all__ = ["GROUP", "PIDNS", "Containment"]

PIDNS: Final = "pidns"
GROUP: Final = "group"

_GUARANTEES = {
    PIDNS: (
        "PID namespace: the kernel ends every process of the tree when the command is stopped or"
        " this process dies, however detached, stopped or deaf to signals they are, and confirms"
        " it"
    ),
    GROUP: (
        "subreaper and process group (weaker than a PID namespace): every descendant is found,"
        " killed and confirmed, also when this process dies; but if the subreaper itself is killed"
        " (by SIGKILL or for lack of memory), detached descendants may live on, and processes that"
        " have changed to another user may not be ours to kill"
    ),
}


class Containment:
    """What holds a tree together on this host, and how well."""

    __slots__ = ("ahead", "guarantee", "mode", "notes", "why_not_stronger")

    def __init__(
        self,
        mode: str,
        why_not_stronger: str | None,
        notes: Sequence[str] = (),
        ahead: bool = False,
    ) -> None:
        self.mode = mode
        """``pidns`` or ``group``."""
        self.guarantee = _GUARANTEES[mode]
        """One sentence for the user: what ends when, and what may not."""
        self.why_not_stronger = why_not_stronger
        """Why there is no PID namespace; None if there is one, or if none was asked for."""
        self.notes = tuple(notes)
        """What else differs from the usual, such as a /proc that could not be mounted."""
        self.ahead = ahead
        """Whether the one who ends the tree is scheduled before all ordinary processes."""

    @property
    def strong(self) -> bool:
        """Whether the kernel alone guarantees the end of the tree."""
        return self.mode == PIDNS

    def __repr__(self) -> str:
        return f"<Containment {self.mode}: {self.why_not_stronger or self.guarantee}>"
