"""The worker's journal: it outlives its process, and nothing in it or around it stops a worker."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models import utcnow
from services import delivery_journal
from services.delivery_journal import Journal, read, remove, remove_orphans
from tests.support.work import ROOT

TOKEN = "0123456789abcdef" * 2
OTHER = "f" * 32
NO_TOKENS = ["", "..", "../" + "a" * 29, "A" * 32, "a" * 31, "a" * 33, f"{TOKEN}\n", "a/" * 16]
HEADER = 11
RECORD = 11


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where journals are, below the VAR_DIR that the functions are given."""
    return tmp_path / "var" / "journal"


@pytest.fixture(autouse=True)
def _forget_warnings() -> None:
    delivery_journal._warn.cache_clear()


def write(folder: Path, answers: dict[int, int], token: str = TOKEN) -> Path:
    journal = Journal.open(folder.parent, token)
    for delivery_id, code in answers.items():
        journal.note(delivery_id, code)
    journal.close()
    return folder / token


def test_what_was_noted_is_read(folder: Path) -> None:
    answers = {1: 250, 2**63 - 1: 251, 1204: 252}
    path = write(folder, answers)
    assert read(folder.parent, TOKEN) == answers
    assert path.stat().st_size == HEADER + 3 * RECORD
    assert read(folder.parent, OTHER) == {}


def test_a_note_is_in_the_file_before_the_journal_is_closed(folder: Path) -> None:
    journal = Journal.open(folder.parent, TOKEN)
    assert read(folder.parent, TOKEN) == {}
    journal.note(7, 250)
    assert read(folder.parent, TOKEN) == {7: 250}
    journal.close_and_remove()
    assert read(folder.parent, TOKEN) == {}
    assert list(folder.iterdir()) == []
    journal.note(8, 250)
    journal.close_and_remove()
    assert list(folder.iterdir()) == []


def test_only_their_owner_reads_journals(folder: Path) -> None:
    before = os.umask(0)
    try:
        path = write(folder, {1: 250})
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("token", NO_TOKENS)
def test_what_is_no_token_becomes_no_path(folder: Path, token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Journal.open(folder.parent, token)
    assert not folder.exists()
    folder.mkdir(parents=True)
    bystander = folder.parent / ("a" * 29)
    bystander.write_bytes(b"foyer-jrn1\n")
    assert read(folder.parent, token) == {}
    remove(folder.parent, token)
    assert bystander.exists()


def test_a_journal_that_exists_is_left_to_its_claim(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, {1: 250})
    second = Journal.open(folder.parent, TOKEN)
    second.note(2, 250)
    second.close_and_remove()
    assert read(folder.parent, TOKEN) == {1: 250}
    assert "exists" in caplog.text.lower()


def test_a_torn_record_is_left_out(folder: Path) -> None:
    path = write(folder, {1: 250, 2: 250, 3: 250})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        records = max(0, (length - HEADER) // RECORD)
        assert read(folder.parent, TOKEN) == dict.fromkeys(range(1, records + 1), 250)


def test_nothing_behind_a_damaged_record_is_believed(folder: Path) -> None:
    path = write(folder, {1: 250, 2: 250, 3: 250})
    whole = path.read_bytes()
    for position in range(RECORD):
        damaged = bytearray(whole)
        damaged[HEADER + RECORD + position] ^= 0x55
        path.write_bytes(damaged)
        assert read(folder.parent, TOKEN) == {1: 250}


_IDS = st.integers(1, 2**63 - 1)
_CODES = st.integers(200, 599)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_IDS, _CODES, max_size=20), st.binary(max_size=200))
@example({1: 250}, bytes(4096))
@example({1: 250}, b"foyer-jrn1\n")
@example({1: 250}, b"\n" * 50)
def test_whatever_is_appended_what_was_noted_stands(
    folder: Path, answers: dict[int, int], foreign: bytes
) -> None:
    path = write(folder, answers)
    with path.open("ab") as file:
        file.write(foreign)
    found = read(folder.parent, TOKEN)
    assert dict(list(found.items())[: len(answers)]) == answers
    remove(folder.parent, TOKEN)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200).filter(lambda content: not content.startswith(b"foyer-jrn1\n")))
def test_a_foreign_file_says_nothing(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKEN).write_bytes(content)
    assert read(folder.parent, TOKEN) == {}


def test_records_without_their_header_say_nothing(folder: Path) -> None:
    path = write(folder, {1: 250})
    path.write_bytes(b"another-01\n" + path.read_bytes()[HEADER:])
    assert read(folder.parent, TOKEN) == {}


def test_the_first_answer_stands(folder: Path) -> None:
    journal = Journal.open(folder.parent, TOKEN)
    journal.note(1, 250)
    journal.note(1, 251)
    journal.close()
    assert read(folder.parent, TOKEN) == {1: 250}


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    target = path.parent / "target"
    write(path.parent, {1: 250}, OTHER).rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("make", [make_folder, make_pipe, make_link])
def test_what_is_no_file_is_not_read(folder: Path, make: Callable[[Path], None]) -> None:
    folder.mkdir(parents=True)
    make(folder / TOKEN)
    assert read(folder.parent, TOKEN) == {}
    assert remove_orphans(folder.parent, set(), utcnow() + timedelta(days=1)) == 0
    journal = Journal.open(folder.parent, TOKEN)
    journal.note(1, 250)
    journal.close_and_remove()
    assert os.path.lexists(folder / TOKEN)


def test_where_no_journal_can_be_written_mails_go_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        for token in (TOKEN, OTHER):
            journal = Journal.open(folder.parent, token)
            journal.note(1, 250)
            journal.close_and_remove()
            assert read(folder.parent, token) == {}
            remove(folder.parent, token)
        assert remove_orphans(folder.parent, set(), utcnow()) == 0
    said = [each for each in caplog.messages if "no journal of accepted mails" in each]
    assert len(said) == 1


def run_writer(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_disk_that_fills_up_costs_only_the_notes_that_follow(folder: Path) -> None:
    done = run_writer(
        "import logging, resource, sys\n"
        "from pathlib import Path\n"
        "from services.delivery_journal import Journal\n"
        "logging.basicConfig()\n"
        "journal = Journal.open(Path(sys.argv[1]), sys.argv[2])\n"
        "unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "limited = (11 + 11 * 3 + 5, unlimited[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, limited)\n"
        "for number in range(1, 5):\n"
        "    journal.note(number, 250)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)\n"
        "journal.note(5, 250)\n"
        "journal.close()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, limited)\n"
        "full = Journal.open(Path(sys.argv[1]), 'f' * 32)\n"
        "for number in range(1, 9):\n"
        "    full.note(number, 250)\n"
        "full.close_and_remove()\n",
        str(folder.parent),
        TOKEN,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no journal of accepted mails") == 1
    assert read(folder.parent, TOKEN) == dict.fromkeys((1, 2, 3), 250)
    assert (folder / TOKEN).stat().st_size == 11 + 11 * 3 + 5, "something follows the torn record"
    assert [path.name for path in folder.iterdir()] == [TOKEN]


def test_a_killed_process_leaves_every_note(folder: Path) -> None:
    done = run_writer(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from services.delivery_journal import Journal\n"
        "journal = Journal.open(Path(sys.argv[1]), sys.argv[2])\n"
        "for number in range(1, 1001):\n"
        "    journal.note(number, 250)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        str(folder.parent),
        TOKEN,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read(folder.parent, TOKEN) == dict.fromkeys(range(1, 1001), 250)


def test_a_process_killed_anywhere_leaves_every_note_that_it_spoke_of(folder: Path) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "from pathlib import Path\n"
            "from services.delivery_journal import Journal\n"
            "journal = Journal.open(Path(sys.argv[1]), sys.argv[2])\n"
            "for number in range(1, 80_000):\n"
            "    journal.note(number, 250)\n"
            "    os.write(1, b'%d\\n' % number)\n",
            str(folder.parent),
            TOKEN,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        for _ in range(500):
            writer.stdout.readline()
        writer.kill()
        rest = [int(line) for line in writer.stdout if line.endswith(b"\n")]
    last = max(rest, default=500)
    found = read(folder.parent, TOKEN)
    assert list(found) == list(range(1, len(found) + 1))
    assert last <= len(found) <= last + 1


def test_orphans_are_removed_and_nothing_else(folder: Path) -> None:
    old, young, known = "1" * 32, "2" * 32, "3" * 32
    for token in (old, young, known):
        write(folder, {1: 250}, token)
    (folder / "notes.txt").write_text("somebody's")
    hour_ago = (utcnow() - timedelta(hours=1)).timestamp()
    for name in (old, known, "notes.txt"):
        os.utime(folder / name, (hour_ago, hour_ago))
    assert remove_orphans(folder.parent, {known}, utcnow() - timedelta(minutes=10)) == 1
    assert {path.name for path in folder.iterdir()} == {young, known, "notes.txt"}
    assert remove_orphans(folder / "missing", set(), utcnow()) == 0
    remove(folder.parent, known)
    remove(folder.parent, known)
    assert {path.name for path in folder.iterdir()} == {young, "notes.txt"}
