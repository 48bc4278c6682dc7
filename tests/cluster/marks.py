"""The worker of a Pod: it says that it works, on a disk that no partition reaches.

A mark is a line of 128 bytes, appended by one write to the file of its application. All Pods of an
application append to the *same* file, so its order is the kernel's own. 128 divides the size of a
page, so that a write which SIGKILL interrupts between two pages is never half of a line.

Run as a program it is what a Pod, or `incumbent run` in it, starts:

    python -I -S marks.py FILE [--write URL] [--listen PORT] [--linger S]

It knows nothing of incumbent but the variable `INCUMBENT_TOKEN`, which is 0 where nobody was
elected. It marks for as long as it lives, unconditionally; with `--write` it also asks the ledger
at the URL to write something four times a second, and with `--listen` it accepts connections, so
that it counts as ready; with `--linger` it works on for so long after it was asked to end. As the
first process of a container it must ask for SIGTERM: the kernel does not end such a process by a
signal that it has no handler for.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

MARK_BYTES = 128
ACTIVE = "active"
SERVING = "serving"

EVERY_S = 0.02
WRITE_EVERY_S = 0.25
WRITE_LIMIT_S = 1.0


def open_file(path: str) -> int:
    """Return a descriptor that appends."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def mark(file: int, state: str, token: int) -> None:
    """Append one mark. The clock is read as late as can be."""
    who = os.environ.get("POD_UID", "-"), os.environ.get("NODE_NAME", "-")
    start = f"{state:8} {who[0]:36} {who[1]:16} {os.getpid():010d} {token:020d}"
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    os.write(file, f"{start} {now_ns:020d}".ljust(MARK_BYTES - 1).encode() + b"\n")


def write_on(url: str, token: int) -> None:
    """Ask the ledger to write, again and again; what it answers is in the ledger."""
    parts = urlsplit(url)
    headers = {"Writer": f"{os.environ.get('POD_UID', '-')}@{os.environ.get('NODE_NAME', '-')}"}
    if token:
        headers["Fencing-Token"] = str(token)
        headers["Fencing-Resource"] = "ledger"
    while True:
        ledger = http.client.HTTPConnection(parts.netloc, timeout=WRITE_LIMIT_S)
        try:
            ledger.request("POST", parts.path, b"", headers)
            ledger.getresponse().read()
        except OSError:
            pass  # It is asked again, as an application would.
        finally:
            ledger.close()
        time.sleep(WRITE_EVERY_S)  # sleep: this pace is the work


def listen(port: int) -> None:
    """Accept connections; on a machine that plays two nodes, several do on one port."""
    with socket.create_server(("", port), reuse_port=True) as server:
        while True:
            server.accept()[0].close()


def end_after(linger_s: float) -> None:
    """End the process, after a while if there is one."""
    if not linger_s:
        os._exit(0)
    threading.Timer(linger_s, os._exit, (0,)).start()


def main(arguments: list[str]) -> None:
    path, *rest = arguments
    told = dict(zip(rest[::2], rest[1::2], strict=True))
    token = int(os.environ.get("INCUMBENT_TOKEN", "0"))
    linger_s = float(told.get("--linger", "0"))
    signal.signal(signal.SIGTERM, lambda _signal, _frame: end_after(linger_s))
    if "--write" in told:
        url = told["--write"]
        threading.Thread(target=write_on, args=(url, token), daemon=True).start()
    if "--listen" in told:
        threading.Thread(target=listen, args=(int(told["--listen"]),), daemon=True).start()
    file = open_file(path)
    while True:
        mark(file, ACTIVE, token)
        time.sleep(EVERY_S)  # sleep: this pace is the work


if __name__ == "__main__":
    main(sys.argv[1:])
