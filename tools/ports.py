"""Free TCP ports on this machine."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"
_TRIED = 100


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def first_free(start: int, *, taken: frozenset[int] = frozenset()) -> int:
    """Find the first free port from `start` on that is not in `taken`; raises OSError."""
    for port in range(start, start + _TRIED):
        if port not in taken and is_free(port):
            return port
    raise OSError(f"No port from {start} to {start + _TRIED - 1} is free.")
