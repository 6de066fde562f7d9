"""SQLite without its locks: in a process of its own, for it has to come before any connection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import sqlite3, sys, threading
from services.sqlite_settings import drop_needless_locks

print(drop_needless_locks())
first = sqlite3.connect(sys.argv[1], check_same_thread=False)
first.execute("CREATE TABLE numbers (number INTEGER)")

def write(connection):
    for number in range(200):
        with connection:
            connection.execute("INSERT INTO numbers VALUES (?)", (number,))

own = [sqlite3.connect(sys.argv[1], check_same_thread=False, timeout=30) for _ in range(3)]
threads = [threading.Thread(target=write, args=(each,)) for each in own]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*first.execute("SELECT count(*) FROM numbers").fetchone())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="changes nothing elsewhere")
def test_sqlite_works_on_in_threads_with_connections_of_their_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "numbers.db")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    dropped, count = done.stdout.splitlines()
    assert dropped in {"True", "False"}
    assert count == "600"
