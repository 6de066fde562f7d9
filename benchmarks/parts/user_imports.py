"""Very many users from a file and into one: how long it takes, and how much memory.

Everything goes through the pages, as somebody with a browser does it: upload, check, import,
export; first with a tenth of the users, then with all of them. Memory that does not depend on their
number has the same peak both times.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa

from benchmarks.bench import Bench
from benchmarks.installations import Installation
from benchmarks.memory import watched
from benchmarks.processes import BenchmarkError, Program
from benchmarks.records import Records, Row
from benchmarks.web import Browser, WebServer, serving
from models import ImportState, User, UserImport

T = TypeVar("T")

_ADMIN = "prpkeAdmin@kenton-electronics.com"
_SUFFIX = "kenton-electronics.com"
_BUNDLE = "Entry3PhoneNextGenBundle"
_USERS = "/customers/CQ001/users"
_LONGEST = 1200.0
_COLUMNS = ("login", "first_name", "last_name", "email", "extension", "bundle")


@dataclass
class _Figures:
    """Seconds of each step, and the highest memory of any web worker and any worker, in bytes."""

    seconds: dict[str, float] = field(default_factory=dict)
    web: int = 0
    worker: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Scene:
    installation: Installation
    web: WebServer
    crew: list[Program]

    def measured(self, figures: _Figures, step: str, work: Callable[[Browser], T]) -> T:
        """Do a step, with a browser of its own: unused for so long, a connection is closed."""

        def workers() -> list[int]:
            return [pid for worker in self.crew for pid in worker.members()]

        browser = self.web.browser(_ADMIN)
        started = time.perf_counter()
        with watched(self.web.workers, 0.05) as web, watched(workers, 0.05) as worker:
            done = work(browser)
        figures.seconds[step] = time.perf_counter() - started
        figures.web, figures.worker = max(figures.web, web.pss), max(figures.worker, worker.pss)
        return done

    def wait_for(self, path: str, state: ImportState) -> None:
        number = int(path.rpartition("/")[2])
        query = sa.select(UserImport.state).where(UserImport.id == number)
        deadline = time.monotonic() + _LONGEST
        while self.installation.read(query)[0].state is not state:
            for worker in self.crew:
                worker.require_alive()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"Import {number} is not {state} after {_LONGEST:g} s.")
            time.sleep(0.05)


def _file(word: str, count: int) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["Login", "First name", "Last name", "E-mail", "Extension", "Bundle"])
    for number in range(count):
        login = f"{word}{number}@{_SUFFIX}"
        writer.writerow(
            [login, f"First{number}", f"Last{number}", login, str(100_000 + number), _BUNDLE]
        )
    return text.getvalue().encode()


def _measure(bench: Bench, engine: str) -> None:
    count = bench.sizes.steady
    with bench.own_installation(engine, "imports") as installation:
        sink = bench.sink()
        with installation.working(sink) as crew, serving(installation, sink) as web:
            scene = _Scene(installation, web, crew)
            few = _journey(scene, "few", count // 10)
            many = _journey(scene, "many", count)
    faults = few.faults + many.faults
    seconds = {f"{step}_seconds": value for step, value in many.seconds.items()}
    for step, steps in (("import", ("upload", "check", "import")), ("export", ("export",))):
        bench.records.add(
            f"{step}-{engine}",
            sum(many.seconds[each] for each in steps),
            faults=faults,
            users=count,
            **seconds,
        )
    for name in ("web", "worker"):
        before, after = getattr(few, name), getattr(many, name)
        bench.records.add(
            f"import-{name}-memory-{engine}", after / before, faults=faults, few=before, many=after
        )


def _journey(scene: _Scene, word: str, count: int) -> _Figures:
    """Import `count` users from a file, and export all that there are."""
    figures = _Figures()
    content = _file(word, count)

    def upload(browser: Browser) -> str:
        form = browser.get(f"{_USERS}/import").form(f"{_USERS}/imports")
        return browser.upload(form, "file", f"{word}.csv", content).path

    path = scene.measured(figures, "upload", upload)

    def check(browser: Browser) -> None:
        columns = {f"column-{place}": name for place, name in enumerate(_COLUMNS)}
        form = browser.get(path).form(f"{path}/check")
        browser.submit(form, mode="add", empty="leave", **columns)
        scene.wait_for(path, ImportState.CHECKED)

    def start(browser: Browser) -> None:
        browser.submit(browser.get(path).form(f"{path}/start"))
        scene.wait_for(path, ImportState.FINISHED)

    def export(browser: Browser) -> int:
        form = browser.get(_USERS).form(f"{_USERS}/actions")
        return browser.submit(form, action="export").text.count(f",{word}")

    scene.measured(figures, "check", check)
    scene.measured(figures, "import", start)
    there = sa.select(sa.func.count()).where(User.login_key.like(f"{word}%@{_SUFFIX}"))
    imported = scene.installation.read(there)[0][0]
    if imported != count:
        figures.faults.append(f"{imported:,} of {count:,} users were imported")
    exported = scene.measured(figures, "export", export)
    if exported < count:
        figures.faults.append(f"the export names {exported:,} of {count:,} users")
    return figures


def imports_sqlite(bench: Bench) -> None:
    _measure(bench, "sqlite")


def imports_postgresql(bench: Bench) -> None:
    _measure(bench, "postgresql")


# --- Rows --------------------------------------------------------------------------------------


def _time_row(step: str, title: str, engine: str, label: str) -> Row:
    series = f"{step}-{engine}"

    def note(records: Records) -> str:
        users = records.detail(series, "users")
        if step == "export":
            return f"{users:,.0f} users and as many as were there before"
        steps = ", ".join(
            f"{each} {records.detail(series, f'{each}_seconds'):.1f} s"
            for each in ("upload", "check", "import")
        )
        return f"{users:,.0f} users: {steps}"

    return Row(
        name=f"{step}-{engine}",
        title=f"{title}, {label}",
        part=f"imports-{engine}",
        series=(series,),
        evaluate=lambda records: records.median(series),
        shown=lambda seconds: f"{seconds:.1f} s",
        note=note,
    )


def _memory_row(engine: str, label: str) -> Row:
    series = {name: f"import-{name}-memory-{engine}" for name in ("web", "worker")}

    def note(records: Records) -> str:
        shown = "; ".join(
            f"{words} {records.detail(series[name], 'few') / 1e6:.0f} and "
            f"{records.detail(series[name], 'many') / 1e6:.0f}"
            for name, words in (("web", "web worker"), ("worker", "worker"))
        )
        return f"highest proportional share in MB: {shown}"

    return Row(
        name=f"import-memory-{engine}",
        title=f"Peak memory of importing and exporting, all users ÷ a tenth, {label}",
        part=f"imports-{engine}",
        series=tuple(series.values()),
        evaluate=lambda records: max(map(records.median, series.values())),
        shown=lambda ratio: f"{ratio:.2f} ×",
        target="≤ 1.25 ×",
        limit=1.25,
        at_least=False,
        note=note,
    )


ROWS = tuple(
    row
    for engine, label in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
    for row in (
        _time_row("import", "Users from a file", engine, label),
        _time_row("export", "Users into a file", engine, label),
        _memory_row(engine, label),
    )
)
