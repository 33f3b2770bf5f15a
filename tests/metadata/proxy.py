"""A TCP proxy in front of Postgres that cuts one connection around a COMMIT."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Literal

Cut = Literal["before COMMIT arrives", "before its answer"]


class Proxy:
    """Forwards bytes; after `arm`, the next COMMIT costs its connection, either before the server saw it or after it obeyed."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._armed: Cut | None = None
        self._silenced: socket.socket | None = None  # the server whose answer goes no further
        self._obeyed = threading.Event()
        self.cuts = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, cut: Cut) -> None:
        self._obeyed.clear()
        self._armed = cut

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            self._shut(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._sockets += [client, server]
            threading.Thread(target=self._upward, args=(client, server), daemon=True).start()
            threading.Thread(target=self._downward, args=(client, server), daemon=True).start()

    def _upward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._armed is not None and b"COMMIT" in data:
                    cut, self._armed = self._armed, None
                    self.cuts += 1
                    if cut == "before its answer":
                        self._silenced = server
                        server.sendall(data)
                        self._obeyed.wait(5)
                    break
                server.sendall(data)
        self._shut(client)
        self._shut(server)

    def _downward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self._silenced is server:
                    self._obeyed.set()
                    return
                client.sendall(data)

    @staticmethod
    def _shut(each: socket.socket) -> None:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
