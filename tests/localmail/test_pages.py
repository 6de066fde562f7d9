"""The mailbox page shows mails, and no mail can harm who reads it."""

from __future__ import annotations

import re
from email import policy
from email.message import EmailMessage

import html5lib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmail.messages import read_message, subject_of
from localmail.store import Incoming
from tests.localmail.conftest import Mailbox

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title><script>alert(1)</script>",
    "'-alert(1)-'",
    "{{ 7 * 7 }}{% raw %}",
    "</pre></textarea><svg onload=alert(1)>",
    "\u202egnp.exe",
]


def welcome() -> bytes:
    message = EmailMessage()
    message["From"], message["To"] = "Foyer <welcome@foyer.example>", "Ann <ann@example.org>"
    message["Subject"] = "Willkommen, Ann Müller"
    message["Message-ID"] = "<1@foyer.example>"
    message.set_content("Your password: sesame\n")
    message.add_alternative(
        "<html><head><title>x</title></head><body><p>Your password: <b>sesame</b></p>"
        '<a href="http://127.0.0.1:8000/login">Sign in</a></body></html>',
        subtype="html",
    )
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="güide.pdf")
    return message.as_bytes(policy=policy.SMTP)


def test_an_empty_mailbox_says_so(mailbox: Mailbox) -> None:
    page = mailbox.page.get("/")
    assert page.status_code == 200
    assert "No mail has arrived yet." in page.text
    assert page.headers["Refresh"] == "5"


def test_the_list_shows_the_newest_first_and_pages_without_gaps(mailbox: Mailbox) -> None:
    for number in range(120):
        mailbox.store.add(_incoming(f"Mail {number:03}", f"u{number}@example.org")).result(
            timeout=10
        )
    seen: list[str] = []
    address: str | None = "/"
    while address:
        text = mailbox.page.get(address).text
        seen += re.findall(r">(Mail \d{3})</a>", text)
        older = re.search(r'href="([^"]*before=\d+)"', text)
        address = older.group(1) if older else None
    assert seen == [f"Mail {number:03}" for number in reversed(range(120))]


def test_updates_can_be_paused_and_older_pages_stand_still(mailbox: Mailbox) -> None:
    mailbox.deliver(welcome())
    assert "Refresh" not in mailbox.page.get("/?live=off").headers
    assert "Refresh" not in mailbox.page.get("/?before=9").headers


def test_a_mail_shows_its_parts(mailbox: Mailbox) -> None:
    number = mailbox.deliver(welcome())
    page = mailbox.page.get(f"/messages/{number}").text
    assert "<h1>Willkommen, Ann Müller</h1>" in page
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in page
    assert "güide.pdf" in page
    text = mailbox.page.get(f"/messages/{number}?view=text").text
    assert "Your password: sesame" in text
    source = mailbox.page.get(f"/messages/{number}?view=source").text
    assert "Message-ID: &lt;1@foyer.example&gt;" in source
    html = mailbox.page.get(f"/messages/{number}/html")
    assert '<head><base target="_blank">' in html.text
    attachment = mailbox.page.get(f"/messages/{number}/attachments/0")
    assert attachment.data == b"%PDF"
    assert attachment.headers["Content-Disposition"].startswith("attachment;")
    raw = mailbox.page.get(f"/messages/{number}/source")
    assert raw.mimetype == "message/rfc822"
    assert mailbox.page.get(f"/messages/{number}/attachments/1").status_code == 404


def test_mail_content_may_neither_run_nor_load_anything(mailbox: Mailbox) -> None:
    number = mailbox.deliver(welcome())
    for part in ("html", "source", "attachments/0"):
        allowed = mailbox.page.get(f"/messages/{number}/{part}").headers["Content-Security-Policy"]
        assert "default-src 'none'" in allowed
        assert "sandbox" in allowed
        assert "script" not in allowed
    html = mailbox.page.get(f"/messages/{number}/html").headers["Content-Security-Policy"]
    assert "img-src data:" in html
    for word in ("allow-scripts", "allow-same-origin", "allow-forms", "allow-top-navigation"):
        assert word not in html


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_mails_are_shown_as_text(mailbox: Mailbox, hostile: str) -> None:
    message = EmailMessage()
    message["From"], message["To"] = "a@b.example", "c@d.example"
    message["Subject"] = hostile
    message["X-Note"] = hostile
    message.set_content(hostile)
    message.add_attachment(b"x", maintype="text", subtype="html", filename=f"{hostile}.html")
    number = mailbox.deliver(message.as_bytes(policy=policy.SMTP))
    for address in (
        "/",
        f"/messages/{number}",
        f"/messages/{number}?view=text",
        f"/messages/{number}?view=source",
        f"/?to={hostile}",
    ):
        page = mailbox.page.get(address)
        assert page.status_code == 200
        tree = html5lib.parse(page.data, namespaceHTMLElements=False)
        names = {element.tag for element in tree.iter() if isinstance(element.tag, str)}
        assert not names & {"script", "img", "svg"}
        attributes = {name for element in tree.iter() for name in element.attrib}
        assert not any(str(name).startswith("on") for name in attributes)
        assert "\u202e" not in page.text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n\r\n",
        b"no header at all",
        b"Subject: =?utf-8?B?!!!?=\r\n\r\n",
        b"Subject: =?nonsense?Q?x?=\r\n\r\n",
        b"Subject: \xff\xfe\x00\r\n\r\n\x00\xff",
        b"Content-Type: text/html; charset=nonsense\r\n\r\n<p>\xff",
        b"Content-Type: text/plain; charset=\xff\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x\r\nContent-Type: a\r\n--x",
        b"To: <<<<@@>>>>, \r\nFrom: @\r\nDate: never\r\nMessage-ID: <\r\n\r\n",
        b"Content-Disposition: attachment; filename*=nonsense''%ff%00\r\n\r\nx",
        b'Content-Disposition: attachment; filename="a\nb"\r\n\r\nx',
        b"Content-Type: message/rfc822\r\n\r\n" * 200 + b"x",
        b"".join(
            b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n)
            for n in range(300)
        ),
    ],
    ids=range(15),
)
def test_broken_mails_are_shown_without_an_error(mailbox: Mailbox, raw: bytes) -> None:
    stored = mailbox.store.add(_incoming(subject_of(raw), "c@d.example", raw))
    number = stored.result(timeout=10)
    for path in ("", "?view=html", "?view=text", "?view=source", "/html", "/source"):
        assert mailbox.page.get(f"/messages/{number}{path}").status_code == 200
    assert mailbox.page.get(f"/messages/{number}/attachments/0").status_code in {200, 404}
    assert mailbox.page.get("/").status_code == 200
    assert mailbox.page.get("/messages.json").status_code == 200


@given(
    raw=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(
                [
                    b"Subject:",
                    b"To:",
                    b"From:",
                    b"Content-Type:",
                    b" multipart/mixed;",
                    b" boundary=b",
                    b"\r\n",
                    b"\r\n\r\n",
                    b"--b\r\n",
                    b"--b--",
                    b" text/html",
                    b" charset=",
                    b"utf-16",
                    b"=?utf-8?q?=ff?=",
                    b"\xff",
                    b"\x00",
                    b"<",
                    b'"',
                    b"(",
                    b"Content-Transfer-Encoding: base64\r\n",
                    b"Content-Disposition: attachment",
                    b"; filename*0*=",
                    b"%",
                ]
            ),
            max_size=25,
        ).map(b"".join),
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_can_be_read(raw: bytes) -> None:
    readable = read_message(raw)
    whole = [subject_of(raw), readable.text, readable.html, readable.header("subject")]
    whole += [text for header in readable.headers for text in header]
    whole += [part.name for part in readable.attachments]
    for text in whole:
        text.encode()
        assert "\x00" not in text


def test_emptying_needs_the_form(mailbox: Mailbox) -> None:
    mailbox.deliver(welcome())
    assert mailbox.page.get("/empty").status_code == 405
    for body in ("", "token=guess", "token=%ff", "token="):
        answer = mailbox.page.post(
            "/empty", data=body, content_type="application/x-www-form-urlencoded"
        )
        assert answer.status_code == 403
    assert mailbox.store.count() == 1
    token = re.search(r'name="token" value="([^"]+)"', mailbox.page.get("/").text)
    assert token is not None
    answer = mailbox.page.post("/empty", data={"token": token.group(1)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert mailbox.store.count() == 0


def test_a_mail_that_is_gone_is_a_page_not_an_error(mailbox: Mailbox) -> None:
    for path in ("7", "99999999999999999999999", "7/html", "7/source", "7/attachments/0", "x"):
        answer = mailbox.page.get(f"/messages/{path}")
        assert answer.status_code == 404
        assert "Show all mails" in answer.text


def test_another_site_s_name_for_this_machine_is_refused(mailbox: Mailbox) -> None:
    assert mailbox.page.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert mailbox.page.get("/", headers={"Host": "localhost:8026"}).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "before=0",
        "before=-1",
        "before=x",
        "before=9" + "9" * 40,
        "limit=0",
        "limit=-5",
        "limit=x",
        "to=%00",
        "to=%ff",
    ],
)
def test_odd_queries_are_answered(mailbox: Mailbox, query: str) -> None:
    mailbox.deliver(welcome())
    assert mailbox.page.get(f"/?{query}").status_code == 200
    assert mailbox.page.get(f"/messages.json?{query}").status_code == 200


def test_json_gives_what_a_test_wants_to_know(mailbox: Mailbox) -> None:
    mailbox.deliver(welcome(), "ann@example.org")
    mailbox.deliver("Subject: other\n\nx", "bob@example.org")
    (mail,) = mailbox.page.get("/messages.json?to=ANN@").get_json()
    assert mail["to"] == ["ann@example.org"]
    assert mail["subject"] == "Willkommen, Ann Müller"
    assert mail["message_id"] == "<1@foyer.example>"
    assert mail["text"] == "Your password: sesame\n"
    assert "<b>sesame</b>" in mail["html"]
    assert mail["attachments"] == [{"name": "güide.pdf", "type": "application/pdf", "size": 4}]
    assert ["Subject", "Willkommen, Ann Müller"] in mail["headers"]


def test_it_wears_foyer_s_style(mailbox: Mailbox) -> None:
    names = re.findall(r'href="(/styles/[^"]+)"', mailbox.page.get("/").text)
    assert len(names) == 4
    for name in names:
        style = mailbox.page.get(name)
        assert (style.status_code, style.mimetype) == (200, "text/css")
    assert mailbox.page.get("/styles/..%2fweb.py").status_code == 404


def _incoming(subject: str, to: str, raw: bytes = b"Subject: x\r\n\r\n") -> Incoming:
    return Incoming("a@b.example", [to], subject, raw)
