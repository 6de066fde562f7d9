"""SQLite's settings for a process that uses it from one thread per connection at a time.

As built, SQLite takes a lock for every call and every piece of memory: a tenth of a worker's time.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import logging
import sys

log = logging.getLogger(__name__)

# https://www.sqlite.org/c3ref/c_config_covering_index_scan.html
_MULTITHREAD = 2
_MEMSTATUS = 9
_OK = 0


def drop_needless_locks() -> bool:
    """Have SQLite lock no connection and count no memory; returns whether it does so now.

    For a process that has no connection open, and will share none between threads at once, which
    SQLAlchemy's pool never does. Changes nothing where the library cannot be reached.
    """
    if sys.platform != "linux":  # Its calls take these arguments like those of any function.
        return False
    try:
        library = ctypes.CDLL(_sqlite3.__file__)
        shutdown, config = library.sqlite3_shutdown, library.sqlite3_config
        initialize = library.sqlite3_initialize
    except (AttributeError, OSError, TypeError):
        return False  # It is part of the interpreter, or hidden in it.
    if shutdown() != _OK:
        return False
    dropped: bool = config(_MEMSTATUS, 0) == _OK and config(_MULTITHREAD) == _OK
    if initialize() != _OK:
        raise RuntimeError("SQLite cannot be used any more")
    return dropped
