"""One mailing to very many: making it, memory, resends and pages while it is on its way.

All of it happens to one installation per database, in the order in which a provider would see it.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import sqlalchemy as sa

from benchmarks.bench import Bench
from benchmarks.installations import Installation
from benchmarks.memory import Peaks, pss_of, watched
from benchmarks.processes import BenchmarkError, Program, python, run, wait_until
from benchmarks.records import Records, Row
from benchmarks.sinks import Sink, settled_count
from benchmarks.users_tab import administrator_of, mail_users, wait_until_recorded
from benchmarks.web import Answer, Browser, WebServer, serving
from models import Mailing, MailingState

_FEW, _MANY, _OTHER = "FEW", "MANY", "CQ001"
_OPERATOR = "operator@foyer.example"
_COMMAND = "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle;Stand4PhoneNextGenBundle|{}"
_PAUSE = 0.01
_WARMING = 20
_RUN = re.compile(r"/sp/commands/\d+")
_PAGES = {
    "progress page": "/customers/{}/mailings/{}",
    "polled progress": "/customers/{}/mailings/{}/progress",
    "Users tab": "/customers/{}/users",
}


@dataclass
class Scene:
    """An installation at work, and the mailings to very many that were started in it."""

    bench: Bench
    installation: Installation
    sink: Sink
    web: WebServer
    crew: list[Program]
    operator: Browser
    mailings: list[int] = field(default_factory=list)

    @property
    def engine(self) -> str:
        return self.installation.engine_name

    @property
    def current(self) -> int:
        return self.mailings[-1]

    def is_running(self) -> bool:
        return self.installation.state_of(self.current) is MailingState.RUNNING

    def keep_running(self) -> None:
        """Start another mailing when the last one has come to its end too soon."""
        if not self.is_running():
            self.mailings.append(_run_command(self, _MANY).mailing_id)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that was run in the window."""

    mailing_id: int
    plan_seconds: float
    seconds: float


def million_sqlite(bench: Bench) -> None:
    with _scene(bench, "sqlite") as scene:
        _measure_memory_of_few(scene)
        with _worker_memory(scene, every=0.25) as peaks:
            _create(scene)
            _measure_resends(scene)
            _measure_pages(scene)
            for each in scene.mailings:
                scene.installation.wait_for_end(each, scene.crew)
        faults = _faults(scene)
        bench.records.add("memory-many", peaks.pss, faults=faults, rss=peaks.rss)
        _measure_queries(scene)


def million_postgresql(bench: Bench) -> None:
    """Only what depends on the database: making the mailing, and what pages read."""
    with _scene(bench, "postgresql") as scene:
        few = _run_command(scene, _FEW)
        scene.installation.wait_for_end(few.mailing_id, scene.crew)
        _create(scene)
        _press(scene, "cancel")
        _measure_queries(scene)


@contextmanager
def _scene(bench: Bench, engine: str) -> Iterator[Scene]:
    sink = bench.sink()
    with bench.own_installation(engine, "million") as installation:
        installation.add_customer(_FEW, bench.sizes.few)
        installation.add_customer(_MANY, bench.sizes.many)
        with (
            serving(installation, sink) as web,
            installation.working(sink) as crew,
        ):
            yield Scene(bench, installation, sink, web, crew, web.browser(_OPERATOR))


def _run_command(scene: Scene, web_id: str) -> Ran:
    """Submit and Run in the maintenance command window, as an operator."""
    window = scene.operator.get("/sp/commands")
    command = _COMMAND.format(web_id)
    plan = scene.operator.submit(window.form("/sp/commands"), text=command)
    found = _RUN.match(plan.path)
    if found is None:
        raise BenchmarkError(f"{command} led to {plan.path} with status {plan.status}.")
    done = scene.operator.submit(plan.form(f"{found[0]}/run"))
    newest = sa.select(sa.func.max(Mailing.id).label("id"))
    return Ran(scene.installation.read(newest)[0].id, plan.seconds, _checked(done).seconds)


def _checked(answer: Answer) -> Answer:
    if answer.status != 200:
        raise BenchmarkError(f"{answer.path} answered {answer.status}.")
    return answer


# --- Making it ---------------------------------------------------------------------------------


def _create(scene: Scene) -> None:
    """The mailing to very many, and what it does to the memory of the web workers."""
    for _ in range(4):  # Each worker has shown its pages.
        scene.operator.get("/sp/commands")
    before = max(map(pss_of, scene.web.workers()))
    with watched(scene.web.workers, every=0.05) as peaks:
        ran = _run_command(scene, _MANY)
    scene.mailings.append(ran.mailing_id)
    (row,) = scene.installation.read(
        sa.select(Mailing.total, Mailing.skipped).where(Mailing.id == ran.mailing_id)
    )
    many = scene.bench.sizes.many
    faults = [f"{row.total:,} of {many:,} recipients"] if row.total != many else []
    add = scene.bench.records.add
    add(f"creating-{scene.engine}", ran.seconds, faults=faults,
        plan_seconds=ran.plan_seconds, recipients=row.total, skipped=row.skipped)  # fmt: skip
    add(f"creating-memory-{scene.engine}", peaks.pss / before, faults=faults,
        before=before, peak=peaks.pss)  # fmt: skip


# --- Memory ------------------------------------------------------------------------------------


@contextmanager
def _worker_memory(scene: Scene, every: float) -> Iterator[Peaks]:
    def pids() -> list[int]:
        return [pid for worker in scene.crew for pid in worker.members()]

    with watched(pids, every) as peaks:
        yield peaks


def _measure_memory_of_few(scene: Scene) -> None:
    for _ in range(scene.bench.sizes.rounds):
        with _worker_memory(scene, every=0.02) as peaks:
            ran = _run_command(scene, _FEW)
            scene.installation.wait_for_end(ran.mailing_id, scene.crew)
        scene.bench.records.add("memory-few", peaks.pss, rss=peaks.rss)


def _faults(scene: Scene) -> list[str]:
    """Everything was sent, and arrived."""
    installation = scene.installation
    sent = installation.read(sa.select(sa.func.sum(Mailing.sent).label("sent")))[0].sent
    accepted = settled_count(scene.sink, sent)
    wrong = installation.read(
        sa.select(Mailing.id).where(Mailing.sent + Mailing.skipped != Mailing.total)
    )
    faults = [f"mailing {row.id} was not sent whole" for row in wrong]
    # The sink may have been used before; it cannot have fewer.
    return faults + ([f"{accepted:,} of {sent:,} arrived"] if accepted < sent else [])


# --- Resends -----------------------------------------------------------------------------------


def _measure_resends(scene: Scene) -> None:
    """A single resend from the Users tab of another customer."""
    browser = scene.web.browser(administrator_of(scene.installation, _OTHER))
    for _ in range(scene.bench.sizes.rounds):
        scene.keep_running()
        clicked = mail_users(browser, scene.installation, _OTHER, 1)
        seconds, faults = wait_until_recorded(scene.installation, clicked, 1, 60)
        scene.bench.records.add("resend", seconds, faults=faults, mailing=scene.current)
        time.sleep(0.5)


# --- Pages -------------------------------------------------------------------------------------


def _measure_pages(scene: Scene) -> None:
    """In turn while the mailing runs and while it is paused: the same pages, the same rows."""
    browser = scene.web.browser(administrator_of(scene.installation, _MANY))
    for path in _PAGES.values():
        for _ in range(_WARMING):  # Each worker has shown it before.
            _ask(browser, path.format(_MANY, scene.current))
    for _ in range(scene.bench.sizes.rounds):
        scene.keep_running()
        _ask_for_pages(scene, browser, "busy")
        if scene.is_running():
            _press(scene, "pause")
        _wait_until_quiet(scene)
        _ask_for_pages(scene, browser, "idle")
        with suppress(BenchmarkError):  # It had ended: there is nothing to resume.
            _press(scene, "resume")


def _ask_for_pages(scene: Scene, browser: Browser, when: str) -> None:
    for name, path in _PAGES.items():
        address = path.format(_MANY, scene.current)
        times, faults = [], []
        for _ in range(scene.bench.sizes.requests):
            answer = _ask(browser, address)
            times.append(answer.seconds)
            if answer.status != 200:
                faults.append(f"{address} answered {answer.status}")
            time.sleep(_PAUSE)
        scene.bench.records.add(
            f"pages-{when}-{name}", statistics.median(times), faults=faults[:1], times=times
        )


def _ask(browser: Browser, address: str) -> Answer:
    return browser.get(address, fragment=address.endswith("/progress"))


def _press(scene: Scene, button: str) -> None:
    """A button on the mailing's page."""
    path = f"/customers/{_MANY}/mailings/{scene.current}"
    page = scene.operator.get(path)
    _checked(scene.operator.submit(page.form(f"{path}/{button}")))


def _wait_until_quiet(scene: Scene) -> None:
    def is_quiet() -> bool:
        query = sa.select(Mailing.sending).where(Mailing.id == scene.current)
        return bool(scene.installation.read(query)[0].sending == 0)

    wait_until(is_quiet, "Pausing the mailing", 60)
    time.sleep(1)


def _measure_queries(scene: Scene) -> None:
    """What the database does for each page, for few and for very many recipients."""
    few = scene.installation.read(sa.select(sa.func.min(Mailing.id).label("id")))[0].id
    pairs = {
        name: (path.format(_FEW, few), path.format(_MANY, scene.current))
        for name, path in _PAGES.items()
    }
    paths = [path for pair in pairs.values() for path in pair]
    report = run(
        python("-m", "benchmarks.page_work", _OPERATOR, *paths), scene.installation.environ()
    )
    work = json.loads(report.strip().splitlines()[-1])
    for name, (small, large) in pairs.items():
        faults = [f"{each} answered {work[each]['status']}" for each in (small, large)
                  if work[each]["status"] != 200]  # fmt: skip
        scene.bench.records.add(
            f"queries-{scene.engine}-{name}",
            work[large]["work"] / max(1, work[small]["work"]),
            faults=faults,
            few=work[small],
            many=work[large],
        )


# --- Rows --------------------------------------------------------------------------------------


def _percentile(records: Records, series: str, percent: int) -> float:
    times: list[float] = sorted(
        each for sample in records.samples[series] for each in sample.details["times"]
    )
    return times[min(len(times) - 1, len(times) * percent // 100)]


def _page_ratios(records: Records) -> dict[str, float]:
    return {
        name: _percentile(records, f"pages-busy-{name}", 99)
        / _percentile(records, f"pages-idle-{name}", 99)
        for name in _PAGES
    }


def _about_pages(records: Records) -> str:
    def shown(name: str, when: str) -> str:
        series = f"pages-{when}-{name}"
        return "/".join(f"{_percentile(records, series, each) * 1000:.0f}" for each in (50, 99))

    return "p50/p99 in ms: " + "; ".join(
        f"{name} {shown(name, 'idle')} idle, {shown(name, 'busy')} busy" for name in _PAGES
    )


def _megabytes(size: float) -> str:
    return f"{size / 2**20:.0f} MB"


def _about_memory(records: Records) -> str:
    few, many = records.median("memory-few"), records.median("memory-many")
    rss = f"{_megabytes(records.detail('memory-few', 'rss'))} and "
    rss += _megabytes(records.detail("memory-many", "rss"))
    return f"PSS {_megabytes(few)} and {_megabytes(many)}, RSS {rss}"


def _creating_rows(engine: str, label: str) -> tuple[Row, ...]:
    part, series, memory = f"million-{engine}", f"creating-{engine}", f"creating-memory-{engine}"

    def about_creating(records: Records) -> str:
        recipients = records.detail(series, "recipients")
        return (
            f"{recipients:,.0f} recipients; dry run {records.detail(series, 'plan_seconds'):.1f} s"
        )

    def about_memory(records: Records) -> str:
        before, peak = records.detail(memory, "before"), records.detail(memory, "peak")
        return f"web worker's PSS {_megabytes(before)} before, at most {_megabytes(peak)}"

    queries = tuple(f"queries-{engine}-{name}" for name in _PAGES)

    def about_queries(records: Records) -> str:
        counted = "steps" if engine == "sqlite" else "rows"
        shown = []
        for name, each in zip(_PAGES, queries, strict=True):
            few, many = _work(records, each, "few"), _work(records, each, "many")
            shown.append(f"{name} {few:,} and {many:,}")
        return f"{counted}: {'; '.join(shown)}"

    return (
        Row(series, f"Creating a mailing to very many, {label}", part, (series,),
            lambda records: records.median(series), lambda seconds: f"{seconds:.1f} s",
            "≤ 20 s", 20.0, False, about_creating),
        Row(memory, f"Web worker's memory meanwhile, {label}", part, (memory,),
            lambda records: records.median(memory), lambda ratio: f"{ratio:.2f} ×",
            "≤ 1.15 ×", 1.15, False, about_memory),
        Row(f"queries-{engine}", f"Work of pages' queries, very many ÷ 1,000 recipients, {label}",
            part, queries, lambda records: max(map(records.median, queries)),
            lambda ratio: f"{ratio:.2f} ×", "≤ 1.1 ×", 1.1, False, about_queries),
    )  # fmt: skip


def _work(records: Records, series: str, which: str) -> int:
    return int(records.samples[series][0].details[which]["work"])


ROWS = (
    Row(
        name="memory",
        title="Memory of a worker, very many ÷ 1,000 recipients",
        part="million-sqlite",
        series=("memory-few", "memory-many"),
        evaluate=lambda records: records.median("memory-many") / records.median("memory-few"),
        shown=lambda ratio: f"{ratio:.2f} ×",
        target="≤ 1.15 ×",
        limit=1.15,
        at_least=False,
        note=_about_memory,
    ),
    Row(
        name="resend",
        title="A single resend while a mailing to very many runs",
        part="million-sqlite",
        series=("resend",),
        evaluate=lambda records: max(records.values("resend")),
        shown=lambda seconds: f"{seconds:.2f} s",
        target="≤ 3 s",
        limit=3.0,
        at_least=False,
        note=lambda records: f"the longest; median {records.median('resend'):.2f} s",
    ),
    Row(
        name="pages",
        title="Pages' p99 while a bulk mailing runs ÷ idle",
        part="million-sqlite",
        series=tuple(f"pages-{when}-{name}" for when in ("idle", "busy") for name in _PAGES),
        evaluate=lambda records: max(_page_ratios(records).values()),
        shown=lambda ratio: f"{ratio:.2f} ×",
        target="≤ 1.5 ×",
        limit=1.5,
        at_least=False,
        note=_about_pages,
    ),
    *_creating_rows("sqlite", "SQLite"),
    *_creating_rows("postgresql", "PostgreSQL"),
)
