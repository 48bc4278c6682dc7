"""A wall clock that is wrong, for one process and what it starts; and no other clock.

libfaketime would do more than is wanted: it also shifts the timers that a program sets on the
clocks of durations, and so the kernel's timer would end a leader while it is trusted.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.process import ServerError

__all__ = ["ahead_by"]

_SOURCE = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long ahead_ns(void) {
    const char *text = getenv("WALL_CLOCK_AHEAD_MS");
    return text ? atoll(text) * 1000000 : 0;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, which, now);
    if (result == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        long long ns = now->tv_sec * 1000000000LL + now->tv_nsec + ahead_ns();
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


def ahead_by(seconds: float, folder: Path) -> Mapping[str, str]:
    """Return the environment of a process whose wall clock is so far ahead; built in `folder`.

    Raises:
        ServerError: there is no C compiler.
    """
    library = folder / "skew.so"
    if not library.exists():
        compiler = shutil.which("cc")
        if compiler is None:
            raise ServerError("there is no C compiler: install gcc")
        words = [compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library)]
        subprocess.run(words, input=_SOURCE, text=True, check=True)
    return {"LD_PRELOAD": str(library), "WALL_CLOCK_AHEAD_MS": str(round(seconds * 1000))}
