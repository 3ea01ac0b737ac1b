"""Connections that can be ended from outside: whoever waits for a silent server, at whatever point, is released."""

import contextlib
import socket
import threading
import weakref

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MOST = 32
"""Connections to one site that are kept for further requests."""


class Connections(HTTPAdapter):
    """The transport of `requests` sessions, to be mounted on them, that knows which sockets are open."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._ended, self._lock = False, threading.Lock()
        self._pools = {
            "http": self._pool(HTTPConnectionPool, HTTPConnection),
            "https": self._pool(HTTPSConnectionPool, HTTPSConnection),
        }
        super().__init__(pool_maxsize=MOST)

    def init_poolmanager(self, *arguments, **keywords) -> None:
        super().init_poolmanager(*arguments, **keywords)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments, **keywords):
        manager = super().proxy_manager_for(*arguments, **keywords)
        if "socks" not in type(manager).__name__.lower():  # those have connections of their own kind
            manager.pool_classes_by_scheme = self._pools
        return manager

    def end(self) -> None:
        """End all connections, also those that are yet to be made: a thread that waits for one sees it break off."""
        with self._lock:
            self._ended = True
            for opened in list(self._sockets):
                _shut(opened)

    def _pool(self, pool: type, connection: type) -> type:
        def connect(made) -> None:
            super(known, made).connect()
            # The socket, not the connection: that lets go of it when the server will close it after its answer.
            with self._lock:
                self._sockets.add(made.sock)
                if self._ended:
                    _shut(made.sock)

        known = type(connection.__name__, (connection,), {"connect": connect})
        return type(pool.__name__, (pool,), {"ConnectionCls": known})


def _shut(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has just ended by itself
        opened.shutdown(socket.SHUT_RDWR)
