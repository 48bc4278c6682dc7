"""The worker of an application that is called: it answers with its token, and marks that it works.

    python serve.py FILE PORT

It is started by `incumbent run` when its replica is elected, so only the active one listens.
"""

from __future__ import annotations

import os
import signal
import socketserver
import sys
import threading
import time

from tests.cluster.marks import ACTIVE, EVERY_S, mark, open_file


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline().strip():
            continue
        body = os.environ["INCUMBENT_TOKEN"].encode()
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.wfile.write(head + body)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


def main(arguments: list[str]) -> None:
    path, port = arguments
    signal.signal(signal.SIGTERM, lambda _signal, _frame: os._exit(0))
    # Pods are called by their own address.
    server = _Server((os.environ["POD_IP"], int(port)), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file, token = open_file(path), int(os.environ["INCUMBENT_TOKEN"])
    while True:
        mark(file, ACTIVE, token)
        time.sleep(EVERY_S)  # sleep: this pace is the work


if __name__ == "__main__":
    main(sys.argv[1:])
