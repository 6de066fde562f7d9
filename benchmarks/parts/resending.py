"""25 users from the Users tab."""

from __future__ import annotations

from benchmarks.bench import BULK_CUSTOMER, Bench
from benchmarks.records import Records, Row
from benchmarks.users_tab import administrator_of, mail_users, wait_until_recorded
from benchmarks.web import serving

_USERS = 25


def users_tab(bench: Bench) -> None:
    """Through the pages, as the customer's administrator; the first time is to get warm."""
    for engine in ("sqlite", "postgresql"):
        installation = bench.installation(engine)
        sink = bench.sink()
        with serving(installation, sink) as web, installation.working(sink):
            browser = web.browser(administrator_of(installation, BULK_CUSTOMER))
            for number in range(bench.sizes.rounds + 1):
                clicked = mail_users(browser, installation, BULK_CUSTOMER, _USERS)
                seconds, faults = wait_until_recorded(installation, clicked, _USERS, 30)
                if number:
                    bench.records.add(f"users-tab-{engine}", seconds, faults=faults)


def _row(engine: str, label: str) -> Row:
    series = f"users-tab-{engine}"

    def note(records: Records) -> str:
        return f"longest {max(records.values(series)):.2f} s"

    return Row(
        name=series,
        title=f"{_USERS} users from the Users tab, click to all recorded, {label}",
        part="users-tab",
        series=(series,),
        evaluate=lambda records: records.median(series),
        shown=lambda seconds: f"{seconds:.2f} s",
        target="≤ 0.5 s",
        limit=0.5,
        at_least=False,
        note=note,
    )


ROWS = (_row("sqlite", "SQLite"), _row("postgresql", "PostgreSQL"))
