"""The loop of `incumbent run`: a command of any language, run by one replica at a time.

One thread, the main one, runs the loop below: it alone touches the process tree, and it must, since
the kernel ties the tree's life to the thread that made it. The keeper's thread tells it over a pipe
what happens to the candidacy; the kernel tells it over the same selector about signals and about
the tree.

What it promises, in the order in which it is kept:

1. The command runs only inside a term, and starts only while the term is trusted.
2. When the term is to end, the whole tree gets TERM, then KILL after the grace, and its end is
   *confirmed* before the lease is given up.
3. If this process dies, is stopped past its deadline, or cannot reach the store, the tree dies
   within the trusted time: by the kernel's timer on this process, and the tree with it.
4. The exit code is the command's own.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from incumbent.cli import codes
from incumbent.cli.answering import Answers, Reply
from incumbent.cli.voice import Voice
from incumbent.clock import boottime
from incumbent.core.events import Why
from incumbent.core.records import Snapshot
from incumbent.errors import LeadershipLost, WorkStuck
from incumbent.runtime.candidacy import Candidacy, Sighting
from incumbent.runtime.contain import Containment, Tree
from incumbent.runtime.deadman import DeadMan
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term

__all__ = ["Runner"]

_ENDING = (signal.SIGTERM, signal.SIGINT)
_ENDING_ALONE = (signal.SIGHUP, signal.SIGQUIT)
"""As they would by default: of a standby, which has nobody to pass them on to."""
_FORWARDED = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


class _Deadline:
    """The watchdog's timer for `run`: the kernel's on this process, and the init's on the tree.

    The second is for a wrapper that is frozen alone: it would not even die of its own timer.

    Set on the keeper's thread, while the main thread changes trees: a tree that is covered after
    the next term was won has to be told that term's deadline, and none may be told once it is
    closed, when the number of its descriptor may be another file's.
    """

    def __init__(self) -> None:
        self._deadman = DeadMan()
        self._lock = threading.Lock()
        self._tree: Tree | None = None
        self._at = float("inf")

    def cover(self, tree: Tree | None) -> None:
        """Have the deadline end this tree from now on, and no other."""
        with self._lock:
            self._tree = tree
            if tree is not None:
                tree.extend(self._at)

    def arm(self, deadline: float, message: str) -> None:
        """Set the deadline."""
        self._deadman.arm(deadline, message)
        self._tell(deadline)

    def disarm(self) -> None:
        """Have no deadline."""
        self._deadman.disarm()
        self._tell(float("inf"))

    def _tell(self, deadline: float) -> None:
        with self._lock:
            self._at = deadline
            if self._tree is not None:
                self._tree.extend(deadline)


class Runner(Candidacy):
    """The candidate of `incumbent run`, and the loop that runs its command."""

    def __init__(
        self,
        settings: Settings,
        argv: Sequence[str],
        *,
        contain: str = "auto",
        wait_s: float | None = None,
        again: bool = False,
        once: bool = False,
        voice: Voice,
        answers: Answers | None = None,
    ) -> None:
        self._deadline = _Deadline()
        super().__init__(settings, observer=self._observe, timer=self._deadline)
        self._argv = list(argv)
        self._contain = contain
        self._wait_s = wait_s
        self._again = again
        self._once = once
        self._voice = voice
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._bell_read, self._bell_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell_read, selectors.EVENT_READ)
        self._answers = answers
        self._tree: Tree | None = None
        self._registered = -1
        self._term: Term | None = None
        self._running = False
        self._kill_at = float("inf")
        self._give_up_at = float("inf")
        self._signals = 0
        self._code: int | None = None
        self._done = False
        self._ended_first = False

    # -- hooks of the candidacy: on the keeper's thread, handed over ------------------------------

    def on_elected(self, term: Term) -> None:
        """Start the command."""
        self._post(self._begin, term)

    def on_stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        """Stop the command."""
        self._post(self._stop, term, cause, deadline)

    def on_waiting(self, snapshot: Snapshot | None, until: float) -> None:
        """Go, if waiting is not wanted."""
        if self._wait_s == 0:
            self._post(self._give_up)

    def on_note(self, code: str, text: str) -> None:
        """Go, if waiting for a store that does not answer is not wanted."""
        if code == "unreachable" and self._wait_s == 0:
            self._post(self._give_up)

    def on_closed(self, error: BaseException | None) -> None:
        """End the loop."""
        self._post(self._finish, error)

    def _observe(self, sighting: Sighting) -> None:
        if sighting.event == "closed":
            self._voice.detail(sighting.event, sighting.text)
        else:
            self._voice.say(sighting.event, sighting.text, sighting.identity, sighting.token)

    def _post(self, what: Callable[..., None], *values: Any) -> None:
        self._inbox.append((what, values))
        os.write(self._bell_write, b"!")

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Contend and run until there is an exit code."""
        self._prepare()
        self._catch_signals()
        if self._wait_s:
            self._give_up_at = boottime() + self._wait_s
        self.start()
        if self._answers is not None:
            self._selector.register(self._answers, selectors.EVENT_READ)
        try:
            while not self._done:
                self._turn()
        finally:
            if self._tree is not None:
                self._deadline.cover(None)
                self._tree.close()
        return codes.TEMPFAIL if self._code is None else self._code

    def _turn(self) -> None:
        deadline = min(self._kill_at, self._give_up_at)
        timeout_s = None if deadline == float("inf") else max(0.0, deadline - boottime())
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._bell_read:
                self._read_bell()
            elif self._answers is not None and key.fileobj is self._answers:
                self._asked(self._answers)
        while self._inbox:
            what, values = self._inbox.popleft()
            what(*values)
        self._look_at_tree()
        now = boottime()
        if now >= self._kill_at:
            self._kill_at = float("inf")
            if self._tree is not None and self._running:
                self._voice.say("grace-over", "the grace is over: killing the command's whole tree")
                self._tree.kill()
        if now >= self._give_up_at:
            self._give_up_at = float("inf")
            if self._term is None:
                self._give_up()

    def _read_bell(self) -> None:
        try:
            data = os.read(self._bell_read, 4096)
        except BlockingIOError:
            return
        for number in data:
            if number != ord("!"):
                self._signalled(signal.Signals(number))

    def _asked(self, answers: Answers) -> None:
        """Have the keeper's loop turn, and answer then."""
        for reply in answers.take():
            self._on_loop(partial(self._post, self._answer, reply))

    def _answer(self, reply: Reply) -> None:
        """Say what this thread does. A term without its work is one whose work has not ended."""
        if self._running:
            reply(b"active\n")
        else:
            reply(b"standby\n" if self._term is None else b"stuck\n")

    # -- the tree ---------------------------------------------------------------------------------

    def _prepare(self) -> None:
        tree = Tree.prepare(self._contain)
        if self._tree is None:
            self._say_containment(tree.containment)
        self._tree = tree
        self._deadline.cover(tree)
        if self._registered >= 0:
            self._selector.unregister(self._registered)
        self._registered = tree.fileno()
        self._selector.register(self._registered, selectors.EVENT_READ)

    def _say_containment(self, found: Containment) -> None:
        if found.strong:
            self._voice.detail("containment", f"containment: {found.guarantee}")
            return
        self._voice.say("containment", f"containment: {found.guarantee}")
        if found.why_not_stronger:
            self._voice.say("containment", f"no PID namespace: {found.why_not_stronger}")

    def _begin(self, term: Term) -> None:
        self._term = term
        self._give_up_at = float("inf")
        tree = self._tree
        if tree is None:
            raise AssertionError("no tree was prepared")
        if self._signals or self._code is not None:
            self._ended(term)
            return
        environment = {
            **os.environ,
            "INCUMBENT_ELECTION": term.name,
            "INCUMBENT_IDENTITY": term.identity,
            "INCUMBENT_TERM": term.id,
            "INCUMBENT_STORE": self.settings.store_url,
            "INCUMBENT_TOKEN": "" if term.token is None else str(term.token),
        }
        try:
            term.check()
        except LeadershipLost:
            self._ended(term)
            return
        self._running = True
        self._ended_first = False
        tree.start(self._argv, env=environment, pass_fds=term.pass_fds)
        if tree.error:
            self._voice.error(tree.error)

    def _stop(self, term: Term, cause: str, deadline: float) -> None:
        if term is not self._term or not self._running or self._tree is None:
            return
        if self._tree.poll() is None:
            self._ended_first = True
        left_s = deadline - boottime() - self.settings.timing.kill_s
        self._tree.request_stop(max(0.0, left_s))

    def _look_at_tree(self) -> None:
        tree, term = self._tree, self._term
        if tree is None:
            return
        status = tree.poll()
        if term is None and tree.gone and self._code is None:
            text = "the init that waited for the command has ended; making another"
            self._voice.say("init-ended", text)
            self._renew_tree()
        if term is None or not self._running:
            return
        if not tree.gone:
            return
        try:
            tree.wait_gone()
        except WorkStuck as error:
            # Not confirmed, so never released, and renewed no more once it is found to be stuck:
            # then the kernel's timer ends this process.
            self._voice.error(error)
            self._running = False
            self.step_down(cause=str(error))
            return
        self._running = False
        self._kill_at = float("inf")
        if tree.left_behind:
            many = "processes" if tree.left_behind > 1 else "process"
            text = f"killed {tree.left_behind} {many} that the command had left behind"
            self._voice.say("left-behind", text, term.identity, term.token)
        for note in tree.notes:
            self._voice.say("note", note)
        self._after_run(term, 137 if status is None else status)

    def _after_run(self, term: Term, status: int) -> None:
        """The whole tree is gone: release, and decide whether to contend again."""
        if self._signals or self._once:
            self._code = codes.TEMPFAIL if self._ended_first and not self._signals else status
            self._leave(term)
        elif self._ended_first or self._again:
            if not self._ended_first:
                text = f"the command ended with {status}; contending again"
                self._voice.say("command-ended", text, term.identity, term.token)
                self.step_down(cause=f"the command ended with {status}")
            # First, and only then the next tree: making one takes an interpreter's start, and the
            # successor waits for our word. A term won meanwhile waits in the inbox for its tree.
            self._ended(term)
            self._renew_tree()
        else:
            self._code = status
            self._leave(term)

    def _renew_tree(self) -> None:
        if self._tree is not None:
            self._selector.unregister(self._registered)
            self._registered = -1
            self._deadline.cover(None)
            self._tree.close()
        self._prepare()

    def _ended(self, term: Term) -> None:
        self._term = None
        self.work_ended(term)

    def _leave(self, term: Term) -> None:
        self._term = None
        self.leave()

    # -- going ------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        if self._term is None and self._code is None:
            self._voice.say("not-elected", f"not elected: {self._last}")
            self._code = codes.TEMPFAIL
            self.close()

    def _finish(self, error: BaseException | None) -> None:
        if error is not None:
            self._voice.error(error)
            self._code = codes.code_of(error)
        self._done = True

    def _catch_signals(self) -> None:
        signal.set_wakeup_fd(self._bell_write, warn_on_full_buffer=False)
        for number in (*_ENDING, *_FORWARDED):
            # What is ignored from the start is nobody's: nohup's HUP, INT behind a shell's `&`.
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        # Stopped from a terminal, this process would be killed at its deadline.
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)

    def _signalled(self, number: signal.Signals) -> None:
        if number in _FORWARDED and (self._term is not None or number not in _ENDING_ALONE):
            self._forward(number)
            return
        self._signals += 1
        if not self._running:
            if self._term is None:
                self._code = 128 + number
                self.close()
            return
        if self._tree is None:
            return
        if self._signals == 1:
            self._tree.signal(number, group=True)
            self._kill_at = boottime() + self.settings.timing.grace_s
        else:
            self._tree.kill()

    def _forward(self, number: signal.Signals) -> None:
        if self._running and self._tree is not None:
            self._tree.signal(number, group=True)
        elif number != signal.SIGWINCH:
            self._voice.say(
                "signal", f"{number.name} came, and there is no command to pass it on to"
            )
