"""What `incumbent doctor` looks at on the host itself: kernel, containment, clock.

The promise assumes that no host's clock rate is off by more than rho while anything slews it. What
slews here is looked for in three places: what the kernel does right now (`adjtimex`, read only),
what the time daemon may do (its configuration), and the kernel's own limit: 10 % of tick.

Each function returns findings and raises nothing. A check that cannot be done says so: `ok` is
None, which is no failure.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from incumbent.errors import IncumbentError
from incumbent.stores.api import Finding

__all__ = ["Timex", "clock", "containment", "daemons", "kernel", "python", "rate", "read_timex"]

KERNEL_LIMIT = 0.10
CHRONY_DEFAULT_PPM = 83_333.333
NTPD_PPM = 500.0
USER_TICK_US = 10_000
_SOUND_SOURCES = (
    "arch_sys_counter",
    "hyperv_clocksource_tsc_page",
    "kvm-clock",
    "riscv_clocksource",
    "tod",
    "tsc",
    "timebase",
    "xen",
)
_CHRONY = ("etc/chrony.conf", "etc/chrony/chrony.conf")
_CHRONY_FOLDERS = ("etc/chrony.d", "etc/chrony/conf.d")
_NTPD = ("etc/ntp.conf", "etc/ntpsec/ntp.conf")
_RUNNING = ("chronyd", "ntpd", "systemd-timesyn", "ptp4l", "phc2sys")


def python() -> Finding:
    """Say on what we run."""
    text = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, text, "" if ok else "use Python 3.11 or newer")


def kernel() -> Iterator[Finding]:
    """Ask for the timer that ends a process whose work outlives its term."""
    from incumbent.runtime import deadman

    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    linux = sys.platform.startswith("linux")
    fix = "" if linux else "the promise needs Linux; elsewhere work is for efficiency only"
    yield Finding("platform", linux, system, fix)
    why = deadman.supported()
    if why is None:
        text = "a kernel timer can end a paused process at its deadline"
        yield Finding("dead-man", True, text)
    else:
        reason, _, fix = why.partition("; ")
        yield Finding("dead-man", False, reason, fix or "run it where the kernel has this timer")


def containment() -> Finding:
    """Try what can hold a process tree together, for `incumbent run`."""
    from incumbent.runtime import contain

    try:
        found = contain.probe()
    except (IncumbentError, OSError) as error:
        return Finding("containment", False, str(error), "`incumbent run` cannot work here")
    prompt = "its end goes before the work of ordinary processes"
    if not found.ahead:
        prompt = "on a starved machine its end waits its turn (CAP_SYS_NICE is missing)"
    if found.strong:
        text = f"PID namespace: no process of a tree can be left over; {prompt}"
        return Finding("containment", True, text)
    text = f"process group and subreaper, which is weaker: {found.why_not_stronger}; {prompt}"
    return Finding("containment", None, text, "for `incumbent run`: permit PID namespaces")


# -- the clock ------------------------------------------------------------------------------------


class Timex(ctypes.Structure):
    """The kernel's `struct timex`, as 64-bit and 32-bit Linux have it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_s", ctypes.c_long),
        ("time_us", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("_rest", ctypes.c_byte * 256),
    )

    @property
    def rate_error(self) -> float:
        """The rate at which the kernel makes its clocks go wrong on purpose, as a share of one.

        `tick` is what a daemon sets to slew fast, `freq` (in 2^-16 ppm) what it sets to correct an
        oscillator. The latter makes the clock right and not wrong; counted whole, it errs on the
        safe side.
        """
        tick = abs(int(self.tick) - USER_TICK_US) / USER_TICK_US
        return tick + abs(int(self.freq)) / 65536 * 1e-6


def read_timex() -> Timex | str:
    """Return the kernel's state of the clock, or why it cannot be read."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = Timex()
        if libc.adjtimex(ctypes.byref(state)) < 0:
            return os.strerror(ctypes.get_errno())
    except (OSError, AttributeError) as error:
        return str(error)
    return state


def clock(rho: float, root: Path = Path("/"), state: Timex | str | None = None) -> list[Finding]:
    """Look at everything that makes the boot-time clock what it is."""
    findings = [_boottime(), _source(root), rate(rho, read_timex() if state is None else state)]
    findings += daemons(rho, root)
    return findings


def _boottime() -> Finding:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        text = "no CLOCK_BOOTTIME: a suspended machine would trust its terms on waking up"
        return Finding("clock", False, text, "use Linux")
    resolution_ns = time.clock_getres(time.CLOCK_BOOTTIME) * 1e9
    coarse = resolution_ns > 1e6
    text = f"CLOCK_BOOTTIME counts suspended time, in steps of {resolution_ns:.0f} ns"
    return Finding("clock", not coarse, text, "use a kernel with hrtimers" * coarse)


def _source(root: Path) -> Finding:
    folder = root / "sys/devices/system/clocksource/clocksource0"
    try:
        name = (folder / "current_clocksource").read_text().strip()
    except OSError:
        return Finding("clock source", None, "not visible here")
    if name in _SOUND_SOURCES:
        return Finding("clock source", True, name)
    text = f"{name}: slow to read, or the kernel found the processor's counter unstable"
    return Finding("clock source", None, text, "look for 'clocksource' in the kernel's log")


def rate(rho: float, state: Timex | str) -> Finding:
    """Compare what the kernel does to the clock now with `rho`."""
    if isinstance(state, str):
        return Finding("clock rate", None, f"adjtimex: {state}")
    now = state.rate_error
    text = f"now adjusted by {now:.4%}; rho is {rho:g}"
    if now <= rho:
        return Finding("clock rate", True, text)
    return Finding("clock rate", False, text, f"--rho {now * 1.2:.2g} or more, on every host")


def daemons(rho: float, root: Path = Path("/")) -> list[Finding]:
    """Find out whether a time daemon may slew faster than `rho`."""
    if rho >= KERNEL_LIMIT:
        text = f"rho {rho:g} covers the kernel's own limit of {KERNEL_LIMIT:.0%} for any daemon"
        return [Finding("time daemon", True, text)]
    found = [*_chrony(rho, root), *_ntpd(rho, root)]
    configured = {finding.text.partition(" ")[0] for finding in found}
    for name in sorted(_processes(root)):
        if name not in configured:
            text = f"{name} runs, and how fast it slews cannot be told; rho is {rho:g}"
            fix = "use chrony with a `maxslewrate`, or the default rho"
            found.append(Finding("time daemon", None, text, fix))
    if not found:
        text = "none seen here; in a container or a guest the host's counts, too"
        found.append(Finding("time daemon", None, text, "ask whoever runs the host, or --rho 0.1"))
    return found


def _chrony(rho: float, root: Path) -> Iterator[Finding]:
    files = [root / name for name in _CHRONY if (root / name).is_file()]
    if not files and "chronyd" not in _processes(root):
        return
    for folder in _CHRONY_FOLDERS:
        files += sorted((root / folder).glob("*.conf"))
    words = _directives(files)
    ppm = CHRONY_DEFAULT_PPM
    where = "its default"
    if "maxslewrate" in words:
        try:
            ppm, where = float(words["maxslewrate"]), "maxslewrate"
        except ValueError:
            text = f"chronyd has maxslewrate {words['maxslewrate']!r}, which is no number"
            yield Finding("time daemon", False, text, "mend chrony.conf")
            return
    share = ppm * 1e-6
    text = f"chronyd may slew by {share:.2%} ({where}); rho is {rho:g}"
    fix = f"`maxslewrate {rho * 1e6:.0f}` in chrony.conf on every host, or a greater rho"
    yield Finding("time daemon", share <= rho, text, "" if share <= rho else fix)


def _ntpd(rho: float, root: Path) -> Iterator[Finding]:
    if not any((root / name).is_file() for name in _NTPD):
        return
    share = NTPD_PPM * 1e-6
    text = f"ntpd slews by at most {share:.2%}; rho is {rho:g}"
    yield Finding("time daemon", share <= rho, text, "" if share <= rho else "a greater rho")


def _directives(files: list[Path]) -> Mapping[str, str]:
    """Return the last value of each directive of chrony's configuration."""
    found = {}
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            words = line.split()
            if len(words) > 1 and words[0][0] not in "#%;!":
                found[words[0].lower()] = words[1]
    return found


def _processes(root: Path) -> set[str]:
    """Return the time daemons that run, as far as this PID namespace shows them."""
    names = set()
    for file in (root / "proc").glob("[0-9]*/comm"):
        try:
            names.add(file.read_text().strip())
        except OSError:
            continue
    return names & set(_RUNNING)
