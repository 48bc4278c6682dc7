"""`incumbent probe PATH`: is the `incumbent run --probe PATH` of this container alive?

For the kubelet's exec probes, or a watchdog. It exits with 0 if the wrapper answers in time, and
with 1 if not; what an answer proves is in `answering`. A command after `--` is asked as well, but
only while the work runs here: where nothing runs there is nothing to be ill. It takes this
process's place, so its exit code, and the kubelet's time limit, are its own.

It runs every few seconds beside each replica, on nodes that are busy. So the entry point
comes here before click is imported, which is most of what another command costs to start, and the
few words of its command line are read by hand.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from incumbent.cli import codes
from incumbent.errors import ConfigError

__all__ = ["USUAL_TIMEOUT_S", "main"]

USUAL_TIMEOUT_S = 4.0
_LONGEST_ANSWER = 4096
_HELP = """\
Usage: incumbent probe [--json] [--timeout S] PATH [-- COMMAND...]

  Ask the `incumbent run --probe PATH` of this container whether it is alive: whether it could keep
  a lease and start or stop its command. Neither the store nor the leader is asked.

  COMMAND is asked as well while the work runs here, and not where it only stands by.

Options:
  --timeout S  After which silence is death [4].
  --json       Write JSON, for programs.
  -h, --help   Show this message and exit.

  Exit codes: 0 alive; 1 not; 2 usage; else COMMAND's own.
"""


def main(arguments: list[str]) -> int:
    """Ask; return the exit code."""
    words, command = arguments, list[str]()
    if "--" in arguments:
        at = arguments.index("--")
        words, command = arguments[:at], arguments[at + 1 :]
        if not command:
            return _misused("there is no COMMAND after the `--`")
    path, timeout_s, as_json = "", USUAL_TIMEOUT_S, False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word in ("-h", "--help"):
            sys.stdout.write(_HELP)
            return codes.OK
        if word == "--json":
            as_json = True
        elif name == "--timeout":
            text = value if equals else next(rest, "")
            try:
                timeout_s = float(text)
            except ValueError:
                timeout_s = 0
            if not 0 < timeout_s <= 3600:
                return _misused(f"--timeout {text!r} is not a number of seconds from 0 to 3600")
        elif word.startswith("-"):
            return _misused(f"there is no option {word!r}")
        elif path:
            return _misused(f"{word!r} is one PATH too many: what is to be run stands after `--`")
        else:
            path = word
    if not path:
        return _misused("say which PATH, as in `incumbent run --probe PATH`")
    return _probe(path, timeout_s, command, as_json=as_json)


def _misused(text: str) -> int:
    codes.complain(ConfigError(f"{text} (see `incumbent probe --help`)"))
    return codes.USAGE


def _probe(path: str, timeout_s: float, command: list[str], *, as_json: bool) -> int:
    state, why = _asked(path, timeout_s)
    alive = state in ("standby", "active")
    if state == "active" and command:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            alive, why = False, f"{command[0]} cannot be run: {error.strerror}"
    if as_json:
        import json

        text = json.dumps({"alive": alive, "state": state, "why": why})
    else:
        text = f"{'alive' if alive else 'not alive'}: {why}"
    with suppress(OSError):  # The exit code is the answer.
        os.write(1, f"{text}\n".encode())
    return codes.OK if alive else codes.NOT_SO


def _asked(path: str, timeout_s: float) -> tuple[str, str]:
    """Return the state that is answered, or "silent", and what to say of it."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(timeout_s)
        try:
            asking.connect(path)
            state = asking.recv(_LONGEST_ANSWER).decode("ascii", "replace").strip()
        except TimeoutError:
            return "silent", f"no answer within {timeout_s:g} s at {path}"
        except OSError as error:
            return "silent", f"nobody answers at {path}: {error.strerror or error}"
    return state or "silent", _SAID.get(state, f"it answered {state!r} at {path}")


_SAID = {
    "": "it closed without an answer",
    "active": "the command runs here",
    "standby": "the command does not run here",
    "stuck": "the end of the command could not be confirmed",
}
