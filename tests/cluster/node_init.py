"""The first process of a node: it gives the node a disk and memory of its own, and reaps.

    python -I -S node_init.py NAME FOLDER

It is started in a new mount, PID, network and host name namespace. `/var` is FOLDER/var, which
outlives the node as a disk does; `/run` is empty after each start. So all that a node's programs
keep is in its own place though they use their default paths, and no mount point has to be made on
the machine. Files over settings of the kernel that are not a namespace's own keep the kubelet from
changing the machine: it looks whether they are as it wants them, and finds that they are.

Everything in the node ends with this process, at once: that is what a power loss is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys

MS_BIND = 4096
SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
READY = "booted"


def mount(source: str, target: str, kind: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = (os.fsencode(source), os.fsencode(target), os.fsencode(kind))
    if libc.mount(*words, flags, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}")


def reap() -> None:
    """Collect whoever ends; orphans of the node land here."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        signal.sigwait({signal.SIGCHLD})


def main(name: str, folder: str) -> None:
    for setting, value in SETTINGS.items():
        file = os.path.join(folder, "settings", setting.replace("/", "."))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "w", encoding="ascii") as out:
            out.write(f"{value}\n")
        mount(file, f"/proc/sys/{setting}", "", MS_BIND)
    mount(os.path.join(folder, "var"), "/var", "", MS_BIND)
    mount("tmpfs", "/run", "tmpfs", 0)
    for path in ("/run/netns", "/run/containerd"):
        os.mkdir(path)
    socket.sethostname(name)
    with open(os.path.join(folder, READY), "w", encoding="ascii") as out:
        out.write("ready\n")
    reap()


if __name__ == "__main__":
    main(*sys.argv[1:])
