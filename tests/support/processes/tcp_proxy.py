"""A TCP proxy that can stop forwarding, as if packets were lost.

`TcpProxy(port, to)` listens on `port` and forwards to `to`, both on the loopback interface.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

_CHUNK = 65_536


class TcpProxy:
    """Runs from `__enter__` to `__exit__`. Any thread may stop and restore forwarding."""

    def __init__(self, port: int, to: int) -> None:
        self._to = to
        self._server = socket.create_server(("127.0.0.1", port))
        self._there, self._back = threading.Event(), threading.Event()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False
        self.restore()

    def cut(self) -> None:
        """Stop forwarding in both directions. Connections stay open, so that neither end notices."""
        self._there.clear()
        self._back.clear()

    def lose_answers(self) -> None:
        """Forward requests but no answers."""
        self._back.clear()

    def restore(self) -> None:
        """Forward again, including the data that arrived meanwhile."""
        self._there.set()
        self._back.set()

    def reset(self) -> None:
        """Close all connections, drop their pending data, and forward new connections."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            _shut(end)
        self.restore()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.reset()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: object, *words: object) -> None:
        thread = threading.Thread(target=target, args=words, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self._start(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        self._there.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._to), timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self._lock:
            self._ends += [near, far]
        self._start(self._pump, near, far, self._there)
        self._pump(far, near, self._back)

    def _pump(self, source: socket.socket, sink: socket.socket, gate: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                gate.wait()
                sink.sendall(data)
        for end in (source, sink):
            _shut(end)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
