"""Every link and every form of every role, followed from its home."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from tests.support.crawling import ROLES, Crawl, client_of, furnish, press
from tests.support.smtp_sink import SmtpSink

pytestmark = pytest.mark.timeout(600)

# Where links lead is one thing on both databases; the queries behind them are tried elsewhere.
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@one_database
@pytest.mark.parametrize("role", ROLES)
def test_every_link_and_form_leads_on(
    app: Flask, sink: SmtpSink, work: Callable[[], None], role: str
) -> None:
    logins = furnish(app)
    work()
    client = client_of(app, logins, role)
    crawl = Crawl(app, client)
    crawl.run("/" if role != "nobody" else "/login")
    faults = crawl.faults + press(app, client, crawl.forms)
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(sorted(set(faults)))
