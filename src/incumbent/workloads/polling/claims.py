"""Which files a holder has in hand: a folder for each token, and a rename for each step.

    INBOX/.incumbent/ELECTION/TOKEN/ATTEMPT-STRIKES/NAME

A file in there is claimed by the holder with this token. `ATTEMPT` counts how often it was given to
the handler; `STRIKES` how many of those count against it, the one under way included. Nothing else
is kept anywhere, so there is nothing that could disagree with what lies there.

Theory
------
A rename within one file system happens as a whole or not at all, and names what it moves by its
path. So a file is at any time in exactly one place, and each place has one meaning: new, in the
hand of a certain holder, done, failed. A crash between any two steps leaves one of these.

The path of a claim has the token in it, and whatever becomes of the file is a rename of that very
path. So a former holder can do to a file only what it could have done before it was followed.

Rules
-----
1. **Seal, then look.** A holder makes the folder of its token, and then looks for others. If one
   has a greater token, it has been followed, and goes. Of two that do this at once, the later token
   sees the earlier one's folder, or the earlier one sees the later one's: each made its own before
   it looked.
2. **The seal of a successor is that the folder is gone.** It moves out what lies in the folders of
   smaller tokens, and removes them. A former holder that wakes up and would claim a file renames
   into a folder that does not exist, and that fails. Folders are made below one's own only, one
   level at a time, so nobody makes that folder anew. If one claimed between the moving and the
   removing, the folder is not empty, and both are done again.
3. **The folder of the greatest token stays**, also when its term has ended: it is the seal.
4. **Regain first.** Nothing new is claimed before all that predecessors had in hand is handled. So
   at most one file is in hand, and no two claims have the same name.
5. **A claim that is not there was taken by a successor, or by hand.** A successor makes its folder
   before it takes anything. So if there is no greater token, it was taken by hand (a handler
   may move or delete its file), and that is that. When it is there still, and cannot be moved
   because something is not found, that is the folder it should go to.
6. **A token has one folder, made once.** Who finds the folder of its own token there already has a
   namesake: two stores that know nothing of each other, or one that began anew. It goes, before it
   looks at anything.
7. **One file in hand is one name.** What a handler writes beside it cannot be told from another
   file in hand: it is said, and left.

What is written down twice or not at all by a crash of the *machine* is the last rename or two; so a
file that was done may come again, and the folders are synchronised to the disk to keep that to one.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from incumbent.errors import ConfigError, StaleToken
from incumbent.workloads.polling.mounts import elsewhere, refuse_elsewhere

__all__ = ["Claim", "Claims"]

_STATE = re.compile(r"(\d+)-(\d+)", re.ASCII)
_LONGEST_NAME_BYTES = 200

logger = logging.getLogger("incumbent")


@dataclass(frozen=True, slots=True)
class Claim:
    """A file in hand.

    Attributes:
        path: where it lies now.
        attempt: how often it has been given to the handler, this time included.
        strikes: how many of those count against it: failures, crashes, and the one under way.
    """

    path: Path
    attempt: int
    strikes: int


class Claims:
    """The claims on the files of one folder, in the hands of one term. It blocks for moments."""

    def __init__(
        self, inbox: Path, root: Path, token: int, check: Callable[[], None], *, durable: bool
    ) -> None:
        self._inbox = inbox
        self._root = root
        self._token = token
        self._own = root / str(token)
        self._check = check
        self._durable = durable
        self._taken: dict[Path, Claim] = {}
        self._told: set[Path] = set()

    def open(self, *targets: Path) -> list[Claim]:
        """Seal, regain what predecessors had in hand, and return it in order.

        Args:
            *targets: folders for what is done; they are made, if need be.

        Raises:
            StaleToken: a later holder was here.
            LeadershipLost: the term is over.
            ConfigError: the folders cannot be used in this way; the message says what to change.
        """
        with _told(self._inbox):
            for folder in (self._root, *targets):
                os.makedirs(folder, exist_ok=True)
            refuse_elsewhere(self._inbox, self._root, *targets)
            self._check()
            try:
                os.mkdir(self._own)
            except FileExistsError:
                self._judge(self._tokens())
                raise self._namesake() from None
            tokens = self._tokens()
            self._judge(tokens)
            for token in tokens:
                if token < self._token:
                    self._regain(self._root / str(token))
            mine = sorted(self._claims_in(self._own), key=lambda claim: claim.path.name)
            self._folder(1, 1)
        if len(mine) > 1:
            logger.warning(
                "%d files were in hand, and one is at a time: %s; what a handler has written "
                "beside its file is taken for one, so write to another folder",
                len(mine),
                ", ".join(repr(str(claim.path)) for claim in mine),
            )
        self._taken = {claim.path: claim for claim in mine}
        return mine

    def claim(self, name: str) -> Claim | None:
        """Claim a new file; None if it is not there any more.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `open`.
        """
        claim = Claim(self._own / "1-1" / name, 1, 1)
        with _told(self._inbox):
            return self._moved(self._inbox / name, claim)

    def again(self, claim: Claim) -> Claim | None:
        """Note that it is tried once more, after a failure; None if it was taken by hand.

        Raises:
            StaleToken, LeadershipLost: see `open`.
        """
        return self._restated(claim, claim.attempt + 1, claim.strikes + 1)

    def leave(self) -> None:
        """Note that what is in hand was cut short by the end of the term, by no fault of its own.

        Raises:
            StaleToken, LeadershipLost: see `open`.
        """
        for claim in list(self._taken.values()):
            self._restated(claim, claim.attempt, claim.strikes - 1)

    def finish(self, claim: Claim, into: Path | None, *beside: str) -> Path | None:
        """Move a file out of the hand, or delete it; return where it is, None if nowhere.

        A file of that name which is there already stays; this one gets a longer name.

        Args:
            claim: the file.
            into: where to move it; None to delete it.
            *beside: endings with which its new name is to be free as well.

        Raises:
            StaleToken, LeadershipLost: see `open`.
            ConfigError: the folder is on another mount by now.
            OSError: it cannot be moved.
        """
        self._check()
        target = None if into is None else _free(into / claim.path.name, beside)
        try:
            if target is None:
                os.unlink(claim.path)
            else:
                os.rename(claim.path, target)
        except FileNotFoundError:
            self._judge(self._tokens())
            if into is not None and os.path.lexists(claim.path):
                os.makedirs(into, exist_ok=True)
                raise
            self._taken.pop(claim.path, None)
            return None
        except OSError as error:
            if error.errno != errno.EXDEV or into is None:
                raise
            raise elsewhere(into, self._inbox) from error
        self._taken.pop(claim.path, None)
        if into is not None:
            self._sync(into)
        self._sync(claim.path.parent)
        self._tell_of_what_is_left(claim.path.parent)
        return target

    # -- steps ------------------------------------------------------------------------------------

    def _meddled(self, folder: Path) -> ConfigError:
        return ConfigError(f"{folder} was removed by somebody else; leave {self._root} alone")

    def _namesake(self) -> ConfigError:
        return ConfigError(
            f"{self._own} is there already, so another holder had token {self._token}: give all "
            "replicas one store that they share (two that know nothing of each other elect one "
            "holder each), and one that outlives a restart; if it began anew, let its tokens go "
            f"on from where they ended, or remove {self._root} when no file is in it"
        )

    def _tell_of_what_is_left(self, folder: Path) -> None:
        with suppress(OSError):
            for name in os.listdir(folder):
                path = folder / name
                if path not in self._taken and path not in self._told:
                    self._told.add(path)
                    logger.warning(
                        "%r was written beside a file in hand, and the next holder will take it "
                        "for one: write to another folder, and move this there",
                        str(path),
                    )

    def _regain(self, theirs: Path) -> None:
        """Move all out of a predecessor's folder, and remove it: rule 2."""
        while True:
            for claim in self._claims_in(theirs):
                attempt, strikes = claim.attempt + 1, claim.strikes + 1
                while os.path.lexists(target := self._folder(attempt, strikes) / claim.path.name):
                    attempt += 1
                self._check()
                with suppress(FileNotFoundError):
                    self._renamed(claim.path, target)
            self._check()
            if self._removed(theirs):
                return

    def _removed(self, theirs: Path) -> bool:
        try:
            for state in os.listdir(theirs):
                os.rmdir(theirs / state)
            os.rmdir(theirs)
        except FileNotFoundError:
            self._judge(self._tokens())
            return not os.path.lexists(theirs)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        return True

    def _restated(self, claim: Claim, attempt: int, strikes: int) -> Claim | None:
        folder = self._folder(attempt, strikes)
        moved = self._moved(claim.path, Claim(folder / claim.path.name, attempt, strikes))
        self._taken.pop(claim.path, None)
        return moved

    def _moved(self, path: Path, claim: Claim) -> Claim | None:
        self._check()
        if os.path.lexists(claim.path):
            raise ConfigError(f"{claim.path} is in the way: somebody else put it there; move it")
        try:
            self._renamed(path, claim.path)
        except FileNotFoundError:
            if not os.path.isdir(claim.path.parent):
                raise self._meddled(claim.path.parent) from None
            return None
        self._taken[claim.path] = claim
        return claim

    def _renamed(self, path: Path, target: Path) -> None:
        """Rename within what is ours, and find out whether it still is: rule 5."""
        try:
            os.rename(path, target)
        except FileNotFoundError:
            self._judge(self._tokens())
            raise

    def _folder(self, attempt: int, strikes: int) -> Path:
        folder = self._own / f"{attempt}-{strikes}"
        try:
            with suppress(FileExistsError):
                os.mkdir(folder)
        except FileNotFoundError:
            self._judge(self._tokens())
            raise
        return folder

    def _judge(self, tokens: list[int]) -> None:
        if tokens and tokens[-1] > self._token:
            raise StaleToken(
                f"{self._root} has seen token {tokens[-1]}, and this term has {self._token}: a "
                "later leader is at work, and nothing was changed"
            )
        if self._token not in tokens:
            raise self._meddled(self._own)

    def _tokens(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self._root) if name.isdecimal())

    def _claims_in(self, folder: Path) -> Iterator[Claim]:
        try:
            states = os.listdir(folder)
        except FileNotFoundError:
            self._judge(self._tokens())
            return
        for state in states:
            match = _STATE.fullmatch(state)
            if match is None:
                raise ConfigError(f"{folder / state} does not belong there: move it elsewhere")
            with suppress(FileNotFoundError):
                for name in os.listdir(folder / state):
                    yield Claim(folder / state / name, int(match[1]), int(match[2]))

    def _sync(self, folder: Path) -> None:
        if not self._durable:
            return
        with suppress(FileNotFoundError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def _free(target: Path, beside: tuple[str, ...]) -> Path:
    """Return a name that nothing has, with these endings neither.

    Nobody but the one holder puts files there (rule 4).
    """
    while any(os.path.lexists(f"{target}{ending}") for ending in ("", *beside)):
        name = os.fsdecode(os.fsencode(target.name)[:_LONGEST_NAME_BYTES])
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        target = target.with_name(f"{name}.{stamp}.{time.time_ns() % 1_000_000_000:09}")
    return target


@contextmanager
def _told(inbox: Path) -> Iterator[None]:
    """Say what to change where the operating system says what is wrong."""
    try:
        yield
    except PermissionError as error:
        raise ConfigError(
            f"{error.filename2 or error.filename}: {error.strerror}; to claim files of {inbox}, "
            "this user has to be allowed to move them, and to make folders there"
        ) from error
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise elsewhere(error.filename2, inbox) from error
