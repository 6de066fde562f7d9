"""One page of every address that links lead to, for who sees it first, as a browser shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from tests.browser.looking import DESKTOP, Check
from tests.support.crawling import ON_BEHALF, Crawl, client_of, furnish
from tests.support.pages import CheckingClient
from tests.support.smtp_sink import SmtpSink

pytestmark = [pytest.mark.xdist_group("pages"), pytest.mark.timeout(600)]

# Together they see every page; where two see the same, the first one's is looked at.
LOOKERS = ("landlord", "administrator", "prospect", "user", "nobody", ON_BEHALF)

# How pages look is one thing on both databases.
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The application at an address of its own, from a thread of this process."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@one_database
def test_a_page_of_every_kind_is_sound_in_both_themes_and_widths(
    app: Flask,
    sink: SmtpSink,
    work: Callable[[], None],
    new_context: Any,
    check: Check,
) -> None:
    logins = furnish(app)
    work()
    seen: set[str] = set()
    faults: list[str] = []
    with served(app) as address:
        for role in LOOKERS:
            client = client_of(app, logins, role)
            crawl = Crawl(app, client, is_thorough=False)
            crawl.run("/login" if role == "nobody" else "/")
            context = new_context(base_url=address, viewport=DESKTOP, reduced_motion="reduce")
            if role != "nobody":
                context.add_cookies([cookie_of(app, client, address)])
            context.on("console", lambda message: faults.append(f"console: {message.text}"))
            context.on("weberror", lambda error: faults.append(f"script: {error.error}"))
            page = context.new_page()
            for endpoint in sorted(crawl.pages.keys() - seen):
                page.goto(crawl.pages[endpoint], wait_until="load")
                assert page.url.removeprefix(address) == crawl.pages[endpoint]
                check(page, f"{role}: {crawl.pages[endpoint]}")
            seen |= crawl.pages.keys()
            context.close()
    assert not faults, faults
    assert len(seen) > 100, seen


def cookie_of(app: Flask, client: CheckingClient, address: str) -> dict[str, str]:
    """The session of a client, for a browser."""
    name: str = app.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None, "nobody is signed in"
    return {"name": name, "value": cookie.value, "url": address}
