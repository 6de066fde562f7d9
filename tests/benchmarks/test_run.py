"""The benchmark itself: a small run is complete and consistent, and wrong results are noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sqlalchemy as sa

from benchmarks.__main__ import ALONE, INTERLEAVED, TOGETHER
from benchmarks.__main__ import ROWS as ALL_ROWS
from benchmarks.bench import BULK_CUSTOMER, Bench, Sizes
from benchmarks.installations import Installation
from benchmarks.processes import ROOT
from benchmarks.sinks import find_smtp_source
from models import Delivery, DeliveryState, Mailing, User

MAILINGS = ("engine-sqlite", "engine-postgresql", "plain-sqlite")
ROWS = ("bare", *(("source",) if find_smtp_source() else ()), *MAILINGS)


@pytest.mark.timeout(300)
def test_a_small_run_is_complete_and_consistent(tmp_path: Path) -> None:
    arguments = ["--rows", ",".join(ROWS), "--rounds", "1", "--recipients", "200"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--into", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert [each["name"] for each in result["findings"]] == list(ROWS)
    for each in result["findings"]:
        assert each["verdict"] in {"", "met", "missed"}
        assert each["number"] > 0
        assert each["title"] in done.stdout
    samples = result["samples"]
    for name in (*ROWS, "bare-plain"):
        (sample,) = samples[name]
        assert sample["faults"] == []
        assert sample["value"] > 0
    assert all(samples[name][0]["details"]["recipients"] == 200 for name in MAILINGS)
    assert result["settings"]["DELIVERY_CHUNK"]
    assert result["machine"]["cores"]
    (table,) = (path.read_text() for path in tmp_path.glob("*.md"))
    assert table.count("\n| ") == len(ROWS)
    (picture,) = tmp_path.glob("*.svg")
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")  # noqa: S314 - ours
    left = {path.suffix for path in tmp_path.iterdir()}
    assert left == {".json", ".md", ".svg"}, "parts of the run were left behind"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rows", "engine-mysql"], "There is no row 'engine-mysql'. The rows are: bare, "),
        (["--rounds", "0"], "--rounds is 0. Write a number from 1 to 1000000."),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--into", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(Sizes(rounds=1, recipients=20), tmp_path)
    yield made
    made.close()


def test_rows_counters_and_mails_that_disagree_are_faults(bench: Bench) -> None:
    installation, sink = bench.installation("sqlite"), bench.sink()
    with installation.working(sink) as crew:
        confirmed = installation.confirm(BULK_CUSTOMER)
        installation.wait_for_end(confirmed.mailing_id, crew)
    assert installation.find_faults(confirmed, 20) == []
    assert installation.find_faults(confirmed, 21, repeats=1) == []
    assert installation.find_faults(confirmed, 21) == ["mails at the sink: 21 instead of 20"]

    one = sa.select(sa.func.min(Delivery.user_id)).where(Delivery.mailing_id == 1).scalar_subquery()
    _change(installation, sa.update(User).where(User.id == one).values(password_hash=None))
    assert installation.find_faults(confirmed, 20) == [
        "portal passwords in force: 19 instead of 20"
    ]
    queued = {"state": DeliveryState.QUEUED, "sent_at": None, "seal": b"sealed"}
    _change(installation, sa.update(Delivery).where(Delivery.user_id == one).values(queued))
    _change(installation, sa.update(Mailing).values(sent=19, queued=1, state="running"))
    assert installation.find_faults(confirmed, 20) == [
        "deliveries sent: 19 instead of 20",
        "the counter of sent mails: 19 instead of 20",
        "portal passwords in force: 19 instead of 20",
        "1 seals were not wiped",
    ]


def _change(installation: Installation, statement: sa.Update) -> None:
    with installation.database.begin() as connection:
        connection.execute(statement)


def test_everything_that_is_interleaved_has_its_place() -> None:
    needed = {part for parts in INTERLEAVED.values() for part in parts}
    placed = [part for group in TOGETHER for part in group]
    assert needed == set(placed)
    assert len(placed) == len(set(placed))
    assert {row.part for row in ALL_ROWS} == {*INTERLEAVED, *ALONE}
