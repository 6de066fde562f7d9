"""A pytest plugin: the run's last lines name what was skipped, and in CI a skip is a failure."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import pytest


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the skipped tests by reason, right above pytest's closing line."""
    reasons = _reasons(terminalreporter)
    if not reasons:
        return
    terminalreporter.section("not run", sep="=", yellow=True)
    for reason, names in sorted(reasons.items()):
        terminalreporter.line(f"{len(names)} skipped: {reason}")
        for name in sorted(names)[:5]:
            terminalreporter.line(f"    {name}")
        if len(names) > 5:
            terminalreporter.line(f"    and {len(names) - 5} more")
    if _in_ci():
        terminalreporter.line("In CI a skipped test is a failure.", red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn a success with skips into a failure in CI."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and exitstatus == 0 and _in_ci() and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _reasons(reporter: pytest.TerminalReporter) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for report in reporter.stats.get("skipped", []):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        reasons[reason.removeprefix("Skipped: ")].append(report.nodeid)
    return reasons


def _in_ci() -> bool:
    return os.environ.get("CI", "").strip().lower() not in {"", "0", "false", "no"}
