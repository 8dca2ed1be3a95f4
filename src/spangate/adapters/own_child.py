"""A door for one child: the process that this program has started for it gets in, and after it its successor.

Rules: the child is known by its number as long as nobody has waited for it, and until then the kernel gives that number
to no other. Who connects is asked of the kernel (unix_peers.py), by a pidfd, so that a process that had the number
before is not taken for the child. While there is no child nobody gets in. Who is refused is told: one line, and not
again at once.
Not here: what is served (sds_door.py), other users (unix_server.py keeps them out).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from spangate.adapters.process import Child
from spangate.adapters.seldom import Seldom
from spangate.adapters.unix_peers import Gone, PeerProcess


class OwnChild:
    """`admits` is for the door's server, from any thread; `start` for whoever starts the child."""

    def __init__(self, door: str, notice: Callable[[str], None]) -> None:
        """`door`: what people call it."""
        self._door = door
        self._seldom = Seldom(notice)
        # Held from before the child is started until it is known: it may knock before that.
        self._lock = threading.Lock()
        self._child: Child | None = None

    def start(self, start: Callable[[], Child]) -> Child:
        """The child that `start` starts: it gets in, its predecessor no longer. Raises what it raises."""
        with self._lock:
            self._child = None
            self._child = start()
            return self._child

    def admits(self, connection: socket.socket) -> bool:
        """Whether the child is at the other end. Tells who else is."""
        try:
            peer = PeerProcess(connection)
        except (Gone, OSError):
            # It has ended, and wants nothing any more.
            return False
        try:
            with self._lock:
                child = self._child
                # The child last: as long as it has not been waited for, its number is its own.
                if child is not None and peer.has_number(child.pid) and child.exit_code() is None:
                    return True
            self._seldom.say(f"the {self._door} refused {peer}: it is for the Envoy that was started for it alone")
            return False
        finally:
            peer.close()
