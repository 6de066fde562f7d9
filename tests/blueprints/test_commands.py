"""The maintenance command window: errors, the dry run, Run, the history; and who may what."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db, queues
from models import (
    Bundle,
    CommandRun,
    CommandRunState,
    Customer,
    CustomerStatus,
    Delivery,
    Group,
    Mailing,
    MailingState,
    Role,
    User,
    UserGroup,
    UserStatus,
)
from services.command_language import COMMANDS
from tests.support.factories import find_customer, find_user, make_user, save
from tests.support.pages import CheckingClient, Page
from tests.support.smtp_sink import SmtpSink

OPERATOR, LANDLORD = "operator@foyer.example", "landlord@foyer.example"
AUDITOR, ADMIN = "auditor@foyer.example", "prpkeAdmin@kenton-electronics.com"
WINDOW = "/sp/commands"
ENTRY, STANDARD = "Entry3PhoneNextGenBundle", "Stand4PhoneNextGenBundle"
RESEND = "$$RESEND WELCOME EMAIL$$"
SEED = f"""{RESEND} {ENTRY}|CQ001
{RESEND} {ENTRY}|CQ001;CQ002;CQ003
{RESEND} {ENTRY};{STANDARD} |CQ001;CQ002;CQ003"""
MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
HTMX = {"HX-Request": "true"}

SignInAs = Callable[[str], CheckingClient]
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def alice(sign_in_as: SignInAs) -> CheckingClient:
    """An operator of every group."""
    return sign_in_as(OPERATOR)


@pytest.fixture
def bob(sign_in_as: SignInAs) -> CheckingClient:
    """A landlord administrator."""
    return sign_in_as(LANDLORD)


@pytest.fixture
def charlie(app: Flask, sign_in_as: SignInAs) -> CheckingClient:
    """An operator of group 2, whose one customer is CQ101."""
    with app.app_context():
        limited = make_user(role=Role.OPERATOR, login="north@foyer.example")
        group = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
        save(UserGroup(user_id=limited.id, group_id=group.id))
    return sign_in_as("north@foyer.example")


def submit(client: CheckingClient, text: str) -> str:
    """Type a text that is right, and submit; returns the address that one is sent to."""
    page = client.page(WINDOW)
    form = page.one("form", class_="command-form")
    response = client.post(form.get("action"), data=page.fields(form) | {"text": text})
    assert response.status_code == 303, page_text(response.text)
    assert re.fullmatch(r"/sp/commands/\d+", response.location)
    return response.location


def refused(client: CheckingClient, text: str) -> Page:
    """The window as it answers to a text that is wrong."""
    response = client.submit(WINDOW, {"text": text})
    assert response.status_code == 422, response.status_code
    return Page(response.text)


def run(client: CheckingClient, url: str) -> str:
    """Press Run on a dry run; returns the address that one is sent to."""
    page = client.page(url)
    form = page.one("form", class_="confirm-bar")
    response = client.post(form.get("action"), data=page.fields(form))
    assert response.status_code == 303, response.text
    return response.location


def page_text(source: str) -> str:
    page = Page(source)
    return page.text(page.one("main"))


def main(page: Page) -> str:
    return page.text(page.one("main"))


def cells(row: Any) -> list[str]:
    return [" ".join("".join(cell.itertext()).split()) for cell in row if cell.tag in {"td", "th"}]


def body_rows(table: Any) -> list[list[str]]:
    return [cells(row) for part in table.iter("tbody") for row in part.iter("tr")]


def total_row(table: Any) -> list[str]:
    (foot,) = table.iter("tfoot")
    return cells(next(foot.iter("tr")))


def typed(page: Page) -> str:
    """What stands in the window; browsers drop the line break behind the tag, as parsers do."""
    return "".join(page.one("textarea", name="text").itertext())


def mailings(app: Flask) -> list[Mailing]:
    with app.app_context():
        return list(db.session.scalars(sa.select(Mailing).order_by(Mailing.id)))


def runs(app: Flask) -> list[CommandRun]:
    with app.app_context():
        return list(db.session.scalars(sa.select(CommandRun).order_by(CommandRun.id)))


# --- The window --------------------------------------------------------------------------------


def test_the_window_shows_every_command_with_an_example_that_fills_it(
    alice: CheckingClient,
) -> None:
    page = alice.page(WINDOW)
    assert page.text(page.one("h1")) == "Commands"
    assert typed(page) == ""
    links = page.all("a", class_="command-example")
    assert [link.get("data-example") for link in links] == [each.example for each in COMMANDS]
    for link, each in zip(links, COMMANDS, strict=True):
        assert each.summary in main(page)
        assert each.usage in main(page)
        assert typed(alice.page(link.get("href"))) == each.example


def test_a_link_cannot_bring_commands_of_its_own(alice: CheckingClient) -> None:
    for query in ("example=x", f"example={RESEND}", f"text={RESEND}", "again=x", "again=0"):
        assert typed(alice.page(f"{WINDOW}?{query}")) == "", query
    assert alice.get(f"{WINDOW}?again=999999").status_code == 404


def test_the_old_addresses_lead_to_the_window_and_to_the_sign_in(
    alice: CheckingClient, client: CheckingClient
) -> None:
    assert alice.get("/konos/commands.jsp").location == WINDOW
    assert client.get("/konos/commands.jsp").location == WINDOW
    assert client.get(WINDOW).location == "/login?next=/sp/commands"
    assert client.get("/konos/sp/spLogin.do").location == "/login"
    response = alice.get("/konos/sp/spLogin.do", follow_redirects=True)
    assert response.request.path == "/customers"


def test_the_navigation_has_commands_and_mailings_for_those_who_may(sign_in_as: SignInAs) -> None:
    for login, wanted in ((OPERATOR, True), (LANDLORD, True), (AUDITOR, True), (ADMIN, False)):
        page = sign_in_as(login).page("/account/profile")
        links = {link.get("href") for link in page.one("nav", aria_label="Areas").iter("a")}
        assert ({WINDOW, "/sp/mailings"} <= links) is wanted, login


# --- Errors ------------------------------------------------------------------------------------

WRONG = f"""# Mondays

{RESEND} {ENTRY}|CQ001
{RESEND} {ENTRY}CQ002
$$RESEND WELCOM EMAIL$$ {ENTRY}|CQ001"""


def test_errors_are_listed_with_their_places_and_the_text_stays(
    app: Flask, alice: CheckingClient
) -> None:
    page = refused(alice, WRONG)
    assert typed(page) == WRONG
    assert page.one("textarea").get("aria-invalid") == "true"
    alert = page.one("div", class_="error-summary command-errors")
    assert alert.get("role") == "alert"
    assert "2 things to correct, nothing was run" in page.text(alert)
    first, second = page.all("a", class_="error-place")
    assert page.text(first) == "Line 4, column 26"
    assert page.text(second) == "Line 5, column 1"
    assert "Did you mean “RESEND WELCOME EMAIL”?" in page.text(alert)
    assert "Expected: " in page.text(alert)
    assert [page.text(mark) for mark in page.all("mark")] == [
        f"{ENTRY}CQ002",
        "$$RESEND WELCOM EMAIL$$",
    ]
    for link, mark in zip((first, second), page.all("mark"), strict=True):
        assert [each.get("id") for each in mark] == [link.get("href")[1:]]
        described = mark.get("aria-describedby").split()
        assert all(page.all("li", id=each) for each in described)
        assert mark.get("title").strip() in page.text(alert)
    assert runs(app) == []
    assert mailings(app) == []


def test_every_line_is_shown_with_its_number(alice: CheckingClient) -> None:
    page = refused(alice, WRONG)
    numbers = [re.sub(r"\D", "", page.text(e)) for e in page.all("span", class_="rendition-number")]
    assert numbers == ["1", "2", "3", "4", "5"]


def test_errors_of_every_kind_are_listed_together(app: Flask, alice: CheckingClient) -> None:
    page = refused(alice, f"{RESEND} {ENTRY}|CQ999\n$$HELPP$$\n{RESEND} Nothing;|CQ001")
    assert [page.text(place) for place in page.all("a", class_="error-place")] == [
        "Line 1, column 51",
        "Line 2, column 1",
        "Line 3, column 26",
        "Line 3, column 33",
    ]
    assert [page.text(mark) for mark in page.all("mark")] == ["CQ999", "$$HELPP$$", "Nothing", ";"]
    assert runs(app) == []


@pytest.mark.parametrize(
    ("text", "place", "marked", "words"),
    [
        (f"{RESEND} {ENTRY.lower()}|CQ001", "Line 1, column 26", ENTRY.lower(), ENTRY),
        (f"\n{RESEND} {ENTRY}|cq001", "Line 2, column 51", "cq001", "CQ001"),
        (f"{RESEND} {STANDARD}|CQ001;CQ002", "Line 1", "CQ002", STANDARD),
        ("$$SEND EMAIL$$ Nothing|Entry3PhoneNextGenBundle|CQ001", "Line 1", "Nothing", "Nothing"),
        ("$$PAUSE MAILING$$ 4711", "Line 1, column 19", "4711", "4711"),
        ("$$CANCEL MAILING$$ x", "Line 1, column 20", "x", "not the number"),
    ],
)
def test_what_a_command_names_wrongly_is_marked(
    app: Flask, alice: CheckingClient, text: str, place: str, marked: str, words: str
) -> None:
    page = refused(alice, text)
    assert place in page.text(page.all("a", class_="error-place")[0])
    assert marked in [page.text(mark) for mark in page.all("mark")] or place == "Line 1"
    assert words in page.text(page.one("div", class_="error-summary command-errors"))
    assert runs(app) == []


@one_database
def test_a_text_without_a_command_says_so(alice: CheckingClient) -> None:
    for text in ("", " \n\t", "# only this"):
        page = refused(alice, text)
        assert "There is no command here." in main(page)
        assert page.one("textarea").get("aria-describedby") == "text-help text-error"
        assert typed(page) == text


@one_database
def test_hostile_text_is_text_wherever_it_stands(alice: CheckingClient) -> None:
    places = (
        MARKUP,
        f"# {MARKUP}\n$$NO$$",
        f"{RESEND} {MARKUP[:60]}|CQ001",
        f"{RESEND} {ENTRY}|{MARKUP[:60]}",
        f"$$SEND EMAIL$$ {MARKUP[:60]}|{ENTRY}|CQ001",
        f"$$PAUSE MAILING$$ {MARKUP}",
        f"$${MARKUP}$$",
        f"</textarea>{MARKUP}",
        "\u202e\u2066$$HELP\x00\x1b[31m",
        "$$HELP$$ \ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    )
    for text in places:
        page = refused(alice, text)
        assert "<script>alert" not in page.source, text
        assert "<img src=x" not in page.source, text
        assert page.all("a", class_="error-place"), text
        assert "\u202e" not in "".join(page.one("div", id="commands-rendition").itertext())
        if text.isprintable():
            assert typed(page) == text


@one_database
def test_a_very_long_text_is_shown_around_its_errors(alice: CheckingClient) -> None:
    lines = ["$$HELP$$"] * 400
    lines[199] = "$$HELPP$$"
    page = refused(alice, "\n".join(lines))
    shown = page.one("div", id="commands-rendition")
    assert len([e for e in shown.iter("li") if "rendition-line" in e.get("class", "")]) == 3
    assert "198 lines are not shown" in page.text(shown)
    assert "199 lines are not shown" in page.text(shown)
    wide = f"{RESEND} {';'.join([ENTRY] * 3000)};;x|CQ001"
    page = refused(alice, wide)
    assert typed(page) == wide
    assert len(page.text(page.one("div", id="commands-rendition"))) < 2_000
    many = refused(alice, "\n".join(["$$X$$"] * 1200))
    assert len(many.all("a", class_="error-place")) == 1001


@one_database
def test_too_much_text_is_refused_and_kept(alice: CheckingClient) -> None:
    form = alice.page(WINDOW).one("form", class_="command-form")
    assert form.get("enctype") == "multipart/form-data", "signs would count three times"
    text = "a" * 500_001
    page = refused(alice, text)
    assert "500,001 characters" in main(page)
    assert typed(page) == text


# --- The dry run -------------------------------------------------------------------------------


def count_of(app: Flask, web_id: str, bundle: str) -> int:
    with app.app_context():
        return (
            db.session.scalar(
                sa.select(sa.func.count(User.id))
                .join(Customer, Customer.id == User.customer_id)
                .join(Bundle, Bundle.id == User.bundle_id)
                .where(Customer.web_id == web_id, Bundle.name == bundle)
            )
            or 0
        )


def test_the_dry_run_says_who_gets_it_and_who_does_not(app: Flask, alice: CheckingClient) -> None:
    with app.app_context():
        kenton = find_customer("CQ002")
        bundle = db.session.scalars(sa.select(Bundle).where(Bundle.name == ENTRY)).one()
        make_user(kenton, bundle_id=bundle.id, status=UserStatus.SUSPENDED)
        make_user(kenton, bundle_id=bundle.id, email="")
    page = alice.page(submit(alice, f"{RESEND} {ENTRY}|CQ002;CQ003"))
    assert page.text(page.one("h1")) == "Dry run"
    words = main(page)
    assert "Nothing has been sent yet." in words
    assert f"{RESEND} {ENTRY}|CQ002;CQ003" in words
    assert "Their portal and application passwords will be reset." in words
    table = page.one("table", class_="table table-compact plan-rows")
    assert body_rows(table) == [
        ["CQ002 Harborlight", ENTRY, "30", "2", "1 without an e-mail address, 1 suspended"],
        ["CQ003 Ostrava", ENTRY, "20", "0", ""],
    ]
    assert total_row(table) == [
        "Total, 2 customers", "50", "2", "1 without an e-mail address, 1 suspended"
    ]  # fmt: skip
    button = page.one("form", class_="confirm-bar").find("button")
    assert page.text(button) == "Reset passwords and send to 50"
    assert [each for each in page.all("button") if "button-primary" in each.get("class", "")] == [
        button
    ]
    assert "50 will get a mail, 2 will not" in words
    assert mailings(app) == []
    assert [each.state for each in runs(app)] == [CommandRunState.PLANNED]


def test_the_mail_of_the_first_is_shown_without_passwords(alice: CheckingClient) -> None:
    page = alice.page(submit(alice, f"{RESEND} {ENTRY}|CQ002"))
    assert "Your Foyer Communications account is ready" in page.text(
        page.one("p", class_="mail-subject")
    )
    assert "••••••••" in page.text(page.one("pre"))
    frame = page.one("iframe")
    assert frame.get("sandbox") == ""
    response = alice.get(frame.get("src"))
    assert "••••••••" in response.text
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox;" in policy
    assert "script-src" not in policy
    for line in ("0", "2", "999", "1000001", "x"):
        assert alice.get(re.sub(r"\d+$", line, frame.get("src"))).status_code == 404, line


def test_several_lines_are_summed_up(alice: CheckingClient) -> None:
    page = alice.page(submit(alice, SEED))
    table = page.one("table", class_="table overview")
    rows = body_rows(table)
    assert [row[0].split(" $$")[0] for row in rows] == ["Line 1", "Line 2", "Line 3"]
    recipients = [int(row[3]) for row in rows]
    assert total_row(table)[3] == str(sum(recipients))
    button = page.one("form", class_="confirm-bar").find("button")
    assert page.text(button) == f"Reset passwords and send to {sum(recipients)}"
    assert "named by an earlier line" in main(page)
    assert len(page.all("iframe")) == 3
    assert len(page.all("details", open="")) == 1


def test_the_button_says_what_happens(app: Flask, alice: CheckingClient) -> None:
    def label(text: str) -> str:
        page = alice.page(submit(alice, text))
        return page.text(page.one("form", class_="confirm-bar").find("button"))

    assert re.fullmatch(r"Send to \d+", label(f"$$SEND EMAIL$$ Voicemail update|{ENTRY}|CQ001"))
    run(alice, submit(alice, f"{RESEND} {ENTRY}|CQ002"))
    mailing = mailings(app)[0].id
    assert label(f"$$PAUSE MAILING$$ {mailing}") == f"Pause mailing {mailing}"
    mixed = f"$$PAUSE MAILING$$ {mailing}\n{RESEND} {STANDARD}|CQ001\n$$HELP$$"
    assert re.fullmatch(r"Run 2 commands and send to \d+", label(mixed))


def test_one_goes_back_to_the_text_and_finds_it_as_it_was(alice: CheckingClient) -> None:
    text = f"# mine\n{RESEND} {ENTRY}|CQ002"
    page = alice.page(submit(alice, text))
    (edit,) = [each for each in page.all("a") if page.text(each) == "Edit"]
    assert typed(alice.page(edit.get("href"))).replace("\r\n", "\n") == text


def test_what_only_looks_is_answered_at_once(app: Flask, alice: CheckingClient) -> None:
    text = "$$LIST BUNDLES$$ CQ001\n$$LIST CUSTOMERS$$\n$$HELP$$"
    page = alice.page(submit(alice, text))
    assert page.text(page.one("h1")) == "Answer"
    bundles, customers, commands = page.all("table")
    assert [ENTRY in " ".join(row) for row in body_rows(bundles)].count(True) == 1
    assert [row[0] for row in body_rows(customers)] == ["CQ001", "CQ002", "CQ003", "CQ101"]
    assert len(body_rows(commands)) == len(COMMANDS)
    assert not page.all("form", class_="confirm-bar")
    assert [each.state for each in runs(app)] == [CommandRunState.DONE]


def test_the_status_of_a_mailing_is_answered_with_its_figures(
    app: Flask, alice: CheckingClient
) -> None:
    run(alice, submit(alice, f"{RESEND} {ENTRY}|CQ002"))
    mailing = mailings(app)[0]
    page = alice.page(submit(alice, f"$$MAILING STATUS$$ {mailing.id}"))
    assert "30 waiting of 30" in main(page)
    assert [a for a in page.all("a") if a.get("href") == f"/sp/mailings/{mailing.id}"]


# --- Run ---------------------------------------------------------------------------------------


def test_run_sends_and_leads_to_the_mailings(
    app: Flask, alice: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    url = submit(alice, SEED)
    assert run(alice, url) == url
    page = alice.page(url)
    assert page.text(page.one("h1")) == "Commands run"
    made = mailings(app)
    assert len(made) == 3
    links = [a.get("href") for a in page.all("a") if "/sp/mailings/" in a.get("href", "")]
    assert links == [f"/sp/mailings/{each.id}" for each in made]
    total = sum(each.queued for each in made)
    assert f"0 of {total} sent." in main(page)
    polled = page.one("div", id="commands-progress")
    assert polled.get("hx-trigger") == "foyer-tick from:body"
    work()
    ended = alice.fragment(polled.get("hx-get"))
    assert ended.one("div", id="commands-progress").get("hx-get") is None
    said = ended.one("p", id="commands-said")
    assert said.get("hx-swap-oob") == "innerHTML"
    assert f"{total} of {total} sent." in ended.text(said)
    assert f"Finished. {total} of {total} sent." in ended.text()
    assert len({mail.recipient for mail in sink.mails}) == len(sink.mails) == total
    assert f"Finished. {total} of {total} sent." in main(alice.page(url))
    assert not alice.page(url).all("noscript")


def test_polling_reads_no_delivery_and_keeps_no_session_alive(
    app: Flask, alice: CheckingClient
) -> None:
    url = submit(alice, f"{RESEND} {ENTRY}|CQ002")
    run(alice, url)
    read: list[str] = []
    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *args: read.append(args[2]))
    for path in (f"{url}/progress", url, WINDOW, "/sp/mailings"):
        assert alice.get(path, headers=HTMX).status_code == 200
    assert read
    assert not [each for each in read if "deliveries" in each or "FROM users JOIN" in each]
    view = app.view_functions["commands.progress"]
    assert getattr(view, "is_passive", False)
    assert alice.get(f"{url}/progress").location == url


def test_run_twice_runs_once_and_shows_what_was_done(app: Flask, alice: CheckingClient) -> None:
    url = submit(alice, f"{RESEND} {ENTRY}|CQ002")
    page = alice.page(url)
    form = page.one("form", class_="confirm-bar")
    answers = [alice.post(form.get("action"), data=page.fields(form)) for _ in range(3)]
    assert [each.status_code for each in answers] == [303] * 3
    assert {each.location for each in answers} == {url}
    assert len(mailings(app)) == 1
    done = alice.page(url)
    assert "Commands run" in main(done)
    assert not done.all("form", class_="confirm-bar")
    with app.app_context():
        assert db.session.query(Delivery).count() == 30


def test_another_operator_cannot_press_run_and_is_told_who_can(
    app: Flask, alice: CheckingClient, bob: CheckingClient
) -> None:
    url = submit(alice, f"{RESEND} {ENTRY}|CQ002")
    page = bob.page(url)
    assert page.one("form", class_="confirm-bar").find("button") is None
    assert f"Only {OPERATOR} can run it" in main(page)
    assert bob.submit(f"{url}/run").status_code == 403
    assert mailings(app) == []
    assert run(alice, url) == url
    assert "Commands run" in main(bob.page(url))


def test_what_no_longer_holds_is_refused_with_its_place(app: Flask, alice: CheckingClient) -> None:
    url = submit(alice, f"# first\n{RESEND} {ENTRY}|CQ001\n{RESEND} {ENTRY}|CQ002")
    with app.app_context():
        find_customer("CQ002").status = CustomerStatus.DELETED
        db.session.commit()
    assert run(alice, url) == url
    page = alice.page(url)
    assert page.text(page.one("h1")) == "Nothing was run"
    assert "Line 3, column" in page.text(page.all("a", class_="error-place")[0])
    assert page.all("mark")
    assert mailings(app) == []
    (edit,) = [each for each in page.all("a") if page.text(each) == "Edit the commands"]
    assert "CQ002" in typed(alice.page(edit.get("href")))
    assert "Refused" in main(alice.page(WINDOW))


def test_steering_is_run_and_shown(app: Flask, alice: CheckingClient) -> None:
    run(alice, submit(alice, f"{RESEND} {ENTRY}|CQ002"))
    mailing = mailings(app)[0].id
    url = submit(alice, f"$$PAUSE MAILING$$ {mailing}")
    words = main(alice.page(url))
    assert "will be paused" in words
    assert "Now: 30 waiting of 30." in words
    run(alice, url)
    assert mailings(app)[0].state is MailingState.PAUSED
    page = alice.page(url)
    assert f"Mailing {mailing} is paused." in main(page)
    queued = len(jobs(app))
    run(alice, submit(alice, f"$$RESUME MAILING$$ {mailing}"))
    assert mailings(app)[0].state is MailingState.RUNNING
    assert len(jobs(app)) == queued + 1, "a worker is asked to go on"


def jobs(app: Flask) -> list[Any]:
    with app.app_context():
        return list(queues["bulk"].jobs)


def test_without_javascript_from_the_paste_to_the_download(
    app: Flask, alice: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    page = alice.page(alice.get("/konos/commands.jsp").location)
    form = page.one("form", class_="command-form")
    wrong = alice.post(form.get("action"), data=page.fields(form) | {"text": "$$RESEND$$ x"})
    assert wrong.status_code == 422
    page = Page(wrong.text)
    form = page.one("form", class_="command-form")
    response = alice.post(form.get("action"), data=page.fields(form) | {"text": SEED})
    url = run(alice, response.location)
    assert alice.page(url).one("noscript") is not None
    work()
    page = alice.page(url)
    assert "Finished." in main(page)
    links = [a.get("href") for a in page.all("a") if "/sp/mailings/" in a.get("href", "")]
    mailing = alice.page(links[-1])
    assert "Finished." in main(mailing)
    (form,) = [e for e in mailing.all("form") if e.get("action", "").endswith("/export")]
    download = alice.post(form.get("action"), data=mailing.fields(form))
    assert download.mimetype == "text/csv"
    assert "CQ003" in download.text
    history = alice.page(WINDOW)
    assert "mails accepted" in main(history)


# --- The history -------------------------------------------------------------------------------


def history_of(page: Page) -> list[list[str]]:
    return body_rows(page.one("table", class_="table runs"))


def test_the_history_says_who_what_when_and_what_came_of_it(
    alice: CheckingClient, bob: CheckingClient
) -> None:
    assert "Nobody has run a command yet" in main(alice.page(WINDOW))
    submit(alice, f"# note\n\n{RESEND} {ENTRY}|CQ002\n{RESEND} {ENTRY}|CQ003")
    run(bob, submit(bob, f"{RESEND} {ENTRY}|CQ002"))
    submit(alice, "$$HELP$$")
    rows = history_of(alice.page(WINDOW))
    assert [row[1] for row in rows] == ["Done", "Done", "Waiting for Run"]
    assert [row[3] for row in rows] == [OPERATOR, LANDLORD, OPERATOR]
    assert rows[2][0] == f"{RESEND} {ENTRY}|CQ002 and 1 more"
    assert rows[2][2] == "Not run yet"
    assert "30 users" in rows[1][2]
    mine = history_of(alice.fragment(f"{WINDOW}?by=me"))
    assert len(mine) == 2
    done = alice.page(f"{WINDOW}?state=done&by=me")
    assert [row[0] for row in history_of(done)] == ["$$HELP$$"]
    chips = done.one("ul", aria_label="Filters that are on")
    assert "State: Done" in done.text(chips)
    assert "By: Me" in done.text(chips)
    assert "No commands match these filters" in main(alice.page(f"{WINDOW}?state=refused"))
    assert len(history_of(alice.page(f"{WINDOW}?state=nonsense&by=x&cursor=x"))) == 3


def test_a_run_is_reopened_and_used_again(alice: CheckingClient) -> None:
    text = f"# again\n{RESEND} {ENTRY}|CQ002"
    url = submit(alice, text)
    page = alice.page(WINDOW)
    table = page.one("table", class_="table runs")
    links = [link.get("href") for link in table.iter("a")]
    assert links[0] == url
    assert typed(alice.page(links[1])).replace("\r\n", "\n") == text


def test_the_history_is_paged_both_ways(app: Flask, alice: CheckingClient) -> None:
    with app.app_context():
        person = find_user(OPERATOR)
        for number in range(60):
            db.session.add(CommandRun(
                actor_id=person.id, actor_login=person.login, source="window", state="planned",
                text=f"$$MAILING STATUS$$ {number + 1}",
            ))  # fmt: skip
            db.session.flush()
        db.session.commit()
    pages = [alice.page(f"{WINDOW}?state=planned")]
    while pages[-1].all("a", id="page-next"):
        pages.append(alice.fragment(pages[-1].one("a", id="page-next").get("href")))
    seen = [row[0] for page in pages for row in history_of(page)]
    assert seen == [f"$$MAILING STATUS$$ {60 - number}" for number in range(60)]
    back = alice.page(pages[-1].one("a", id="page-previous").get("href"))
    assert history_of(back) == history_of(pages[-2])


def test_hostile_text_of_a_run_is_text_in_the_history(app: Flask, alice: CheckingClient) -> None:
    with app.app_context():
        db.session.add(CommandRun(
            actor_id=None, actor_login=f"terminal:{MARKUP}", source="terminal", state="done",
            ran_at=sa.func.now(), text=f"# x\n{MARKUP}\n{MARKUP}",
            plan={"lines": []}, outcome={"lines": [], "errors": []},
        ))  # fmt: skip
        db.session.commit()
        made = db.session.scalars(sa.select(CommandRun.id)).one()
    for path in (WINDOW, f"{WINDOW}/{made}", f"{WINDOW}?again={made}"):
        page = alice.page(path)
        assert "<script>alert" not in page.source
        assert not page.all("img")


# --- Who may what ------------------------------------------------------------------------------


def test_an_auditor_reads_and_runs_nothing(
    app: Flask, alice: CheckingClient, sign_in_as: SignInAs
) -> None:
    url = submit(alice, f"{RESEND} {ENTRY}|CQ002")
    auditor = sign_in_as(AUDITOR)
    page = auditor.page(WINDOW)
    assert not page.all("textarea")
    assert len(history_of(page)) == 1
    assert "Use again" not in main(page)
    assert auditor.page(url).one("form", class_="confirm-bar").find("button") is None
    assert auditor.submit(WINDOW, {"text": "$$HELP$$"}).status_code == 403
    assert auditor.submit(f"{url}/run").status_code == 403
    assert mailings(app) == []


def test_customers_people_find_no_window(sign_in_as: SignInAs, alice: CheckingClient) -> None:
    url = submit(alice, f"{RESEND} {ENTRY}|CQ001")
    admin = sign_in_as(ADMIN)
    for path in (WINDOW, url, f"{url}/progress", f"{url}/mail/1", "/sp/mailings"):
        assert admin.get(path).status_code == 403, path
    assert admin.submit(WINDOW, {"text": "$$HELP$$"}).status_code == 403
    assert admin.submit(f"{url}/run").status_code == 403


def test_other_groups_customers_are_unknown_and_their_runs_not_there(
    app: Flask, alice: CheckingClient, charlie: CheckingClient
) -> None:
    page = refused(charlie, f"{RESEND} {ENTRY}|CQ001")
    assert "Kenton" not in page.source
    assert page.all("mark")
    listed = charlie.page(submit(charlie, "$$LIST CUSTOMERS$$"))
    assert [row[0] for row in body_rows(listed.all("table")[0])] == ["CQ101"]
    url = submit(alice, f"{RESEND} {ENTRY}|CQ001")
    for path in (url, f"{url}/progress", f"{url}/mail/1", f"{WINDOW}?again={url.split('/')[-1]}"):
        assert charlie.get(path).status_code == 404, path
    assert charlie.submit(f"{url}/run").status_code == 404
    assert "CQ001" not in charlie.page(WINDOW).text(
        charlie.page(WINDOW).one("div", id="commands-history")
    )
    assert mailings(app) == []


@one_database
def test_every_parameter_and_field_takes_anything(alice: CheckingClient) -> None:
    url = submit(alice, f"{RESEND} {ENTRY}|CQ002")
    for text in ("\0", "x" * 5000, str(10**30), "-1", MARKUP, "\ud7ff\ufeff", "%", "\u0661"):
        query = urlencode(dict.fromkeys(("state", "by", "cursor", "example", "again"), text))
        for path in (WINDOW, url, f"{url}/progress", f"{url}/mail/1"):
            assert alice.get(f"{path}?{query}").status_code < 500, (path, text)
        assert alice.submit(WINDOW, {"text": text}).status_code == 422, text
    for number in ("0", "999999", str(2**63 - 1), str(2**63), "x"):
        assert alice.get(f"{WINDOW}/{number}").status_code == 404, number
        assert alice.submit(f"{WINDOW}/{number}/run").status_code == 404, number
