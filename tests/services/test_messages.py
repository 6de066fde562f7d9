"""Messages as a strict parser sees them."""

import email
import email.policy
import re
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.mail_headers import (
    AddressError,
    MessageError,
    clean_line,
    clean_lines,
    dot_stuff,
    envelope_address,
)
from services.mail_html import ProviderBranding
from services.mail_texts import DEFAULT_TEMPLATES, load_default_template, load_system_mail
from services.messages import PreparedMessage, RenderedMessage, compile_message
from services.placeholders import PLACEHOLDERS, PlaceholderError, sample_values

PROVIDER = ProviderBranding(
    name="Foyer Communications",
    help_contact="help@portal.example",
    help_link="https://portal.example/help",
)
DATE = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
STRICT = email.policy.SMTP.clone(raise_on_defect=True)
NASTY = st.one_of(
    st.text(max_size=300),
    st.text(alphabet=".\r\n =?\t\0\x1b<>\"\\@,;:()éß😀\u202eא\u2028\ud800", max_size=120),
    st.sampled_from(
        [".", "From x", "\r\n.\r\n", "a\r\nBcc: eve@evil.example", "=?utf-8?q?x?=", "x" * 3000,
         "😀" * 400, "trail ", "%(x)s %% %s", "((login))", "[[x]]", "--=_foyer", "שלום عالم"]
    ),
)  # fmt: skip


def prepare(
    subject: str = "Hello", text: str = "Hello", html: str = "<p>Hello</p>"
) -> PreparedMessage:
    return compile_message(
        subject,
        text,
        html,
        sender="Foyer <noreply@portal.example>",
        provider=PROVIDER,
        language="en",
    )


def render(
    message: PreparedMessage,
    values: dict[str, str] | None = None,
    *,
    name: str = "Ada Kenton",
    address: str = "ada@kenton.example",
) -> bytes:
    return message.render(
        sample_values() | (values or {}),
        to_name=name,
        to_address=address,
        message_id="<1@portal.example>",
        date=DATE,
    )


def strict(wire: bytes) -> EmailMessage:
    """Parse, and check what holds for every message on the wire."""
    assert wire.count(b"\n") == wire.count(b"\r") == wire.count(b"\r\n")
    assert b"\0" not in wire
    head, _, content = wire.partition(b"\r\n\r\n")
    assert max(map(len, head.split(b"\r\n"))) <= 78
    assert max(map(len, content.split(b"\r\n"))) <= 76
    assert not re.search(rb"^\.", wire, re.MULTILINE)
    assert wire.endswith(b"\r\n")
    assert wire.isascii()
    message = email.message_from_bytes(wire, policy=STRICT)
    for part in message.walk():
        assert not part.defects
        for value in part.values():
            assert not getattr(value, "defects", ())
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def display_name(wire: bytes) -> str:
    """Return the name in To. The strict policy keeps the folds between encoded words in it."""
    header = email.message_from_bytes(wire)["To"].replace("\r\n ", " ")
    name, _ = parseaddr(header)
    return str(make_header(decode_header(name))) if "=?" in header else name


class Words(HTMLParser):
    """The text and the links of a document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.words = ""
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.words += data


PERSONAL = prepare(
    "For ((full name))",
    "Hello ((full name)),\n\n[[Extension ((extension))]]\n\n((services))\n.\n\nFrom here 100 % =\n",
    "<p>Hello ((full name)) 100 %</p>[[<p>Ext. ((extension))</p>]]<p>((services))</p>"
    '<p><a href="((portal link))">Open</a> <a href="mailto:((email))">Write</a></p>',
)


@given(name=NASTY, services=NASTY, extension=NASTY)
@example(name="\r\nBcc: eve@evil.example\r\n\r\n<script>", services="a\n.\nb", extension="")
@example(name="\ud800", services=" \n ", extension="x" * 2000)
def test_any_value_comes_back_as_it_was_and_nothing_else_changes(
    name: str, services: str, extension: str
) -> None:
    values = {"full name": name, "services": services, "extension": extension}
    wire = render(PERSONAL, values, name=name)
    message = strict(wire)

    assert message.keys() == [
        "To", "Subject", "Date", "Message-ID", "From", "Auto-Submitted",
        "X-Auto-Response-Suppress", "Content-Language", "MIME-Version", "Content-Type",
    ]  # fmt: skip
    [to] = message["To"].addresses
    assert to.addr_spec == "ada@kenton.example"
    assert display_name(wire) == " ".join(clean_line(name).split())
    assert message["Subject"] == f"For {clean_line(name)}".strip()
    text = body(message, "plain").replace("\r\n", "\n")
    expected = f"Hello {clean_line(name)},\n\n"
    if clean_line(extension).strip():
        expected += f"Extension {clean_line(extension)}\n\n"
    expected += f"{clean_lines(services).strip(chr(10))}\n.\n\nFrom here 100 % =\n"
    assert text.startswith(expected)
    assert text.endswith("sent automatically.\n")
    html = Words(body(message, "html"))
    assert html.tags.count("script") == 0
    assert f"Hello {clean_line(name)} 100 %" in html.words
    assert html.links[:2] == [
        "https://portal.example/login",
        "mailto:ada.kenton@kenton-electronics.com",
    ]


WRITTEN = st.lists(
    st.one_of(
        st.sampled_from(
            ["((full name))", "((login))", "((services))", "((customer name))", "((extension))",
             "((portal password))", "[[Ext. ((extension))]]", "\n\n[[((services)) ((login))]]\n\n",
             "[[. ((customer name))\n]]", "\n", "\n.", " ", " \n", "=", "100 %", "%b", "%%", "é"]
        ),
        st.text(st.characters(exclude_characters="()[]<>&'\""), max_size=100),
    ),
    max_size=8,
).map("".join)  # fmt: skip


def as_the_library_sends_it(shown: RenderedMessage) -> EmailMessage:
    message = EmailMessage()
    message.set_content(shown.text, cte="quoted-printable")
    message.add_alternative(shown.html, subtype="html", cte="quoted-printable")
    return email.message_from_bytes(bytes(message), policy=email.policy.default)


@given(
    text=WRITTEN,
    values=st.fixed_dictionaries(
        dict.fromkeys(("full name", "login", "services", "customer name"), NASTY)
        | {
            "extension": st.sampled_from(
                ["", " ", "\n", "\0", "204", ".5", "=41", "O'Brien & <sons>"]
            )
        }
    ),
)
def test_the_wire_carries_what_the_preview_shows(text: str, values: dict[str, str]) -> None:
    message = prepare(text=f"x{text}", html=f"<p>{text}</p>x")
    values = sample_values() | values
    shown = message.preview(values)
    expected = as_the_library_sends_it(shown)

    for _ in ("new", "kept"):
        received = strict(render(message, values))
        for kind in ("plain", "html"):
            assert body(received, kind).replace("\r\n", "\n") == body(expected, kind)
    assert body(expected, "plain") == shown.text
    assert body(expected, "html") == shown.html


@given(password=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=100))
@example(password=".=41.=\\")
@example(password="x" * 76)
def test_a_password_arrives_character_by_character(password: str) -> None:
    message = prepare(
        text="Password:\n((portal password))\nEnd", html="<code>((portal password))</code>"
    )
    parsed = strict(render(message, {"portal password": password}))

    assert body(parsed, "plain").split("\r\n")[1] == password
    assert password in Words(body(parsed, "html")).words


def test_no_credential_is_kept_for_the_next_recipient() -> None:
    assert not [each.name for each in PLACEHOLDERS.values() if each.secret and each.shared]


def test_what_one_customer_has_is_not_shown_to_another() -> None:
    message = prepare(
        "Mail from ((customer name))",
        "((customer name)) for ((login))[[, ((bundle))]][[, extension ((extension))]]\n\n",
        "<p>((customer name)): ((login))</p>[[<p>((extension))</p>]]",
    )
    first = {"customer name": "Kenton", "bundle": "Entry", "login": "ada", "extension": "1"}
    for changes, shown in [
        ({}, "Kenton for ada, Entry, extension 1"),
        ({"customer name": "Larkspur"}, "Larkspur for ada, Entry, extension 1"),
        ({"extension": ""}, "Kenton for ada, Entry"),
        ({"bundle": " "}, "Kenton for ada, extension 1"),
        ({"login": "eve"}, "Kenton for eve, Entry, extension 1"),
        ({}, "Kenton for ada, Entry, extension 1"),
    ]:
        values = first | changes
        parsed = strict(render(message, values))
        assert body(parsed, "plain").split("\r\n")[0] == shown
        assert parsed["Subject"] == f"Mail from {values['customer name']}"
        words = Words(body(parsed, "html")).words
        assert f"{values['customer name']}: {values['login']}" in words


def test_more_customers_than_are_kept_get_their_own_mails() -> None:
    message = prepare("((customer name))", "((customer name))!")

    for number in [*range(1500), 0, 1, 2]:
        wire = render(message, {"customer name": f"Customer {number}"})
        assert f"\r\nSubject: Customer {number}\r\n".encode() in wire
        assert f"\r\nCustomer {number}=\r\n!".encode() in wire


@pytest.mark.parametrize("hours", [0, 1, -5])
def test_the_date_is_that_of_its_own_time_zone(hours: int) -> None:
    date = DATE.astimezone(timezone(timedelta(hours=hours)))
    wire = prepare().render(
        sample_values(), to_name="", to_address="a@b.c", message_id="<1@x.y>", date=date
    )

    assert strict(wire)["Date"].datetime.isoformat() == date.isoformat()


def test_a_date_without_a_time_zone_is_refused() -> None:
    date = DATE.replace(tzinfo=None)
    with pytest.raises(ValueError, match="aware"):
        prepare().render({}, to_name="", to_address="a@b.c", message_id="<1@x.y>", date=date)


def test_an_envelope_address_that_is_known_is_not_worked_out_again() -> None:
    envelope_to, _ = envelope_address("ada@bücher.example")
    wire = prepare().render(
        {},
        to_name="Ada",
        to_address="ada@bücher.example",
        envelope_to=envelope_to,
        message_id="<1@x.y>",
        date=DATE,
    )

    assert b"To: Ada <ada@xn--bcher-kva.example>\r\n" in wire


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("Ada Kenton", "To: Ada Kenton <ada@kenton.example>"),
        ("  Ada \t Kenton ", "To: Ada Kenton <ada@kenton.example>"),
        ("", "To: ada@kenton.example"),
        ("Kenton, Ada", 'To: "Kenton, Ada" <ada@kenton.example>'),
        ("=?x", "To: =?utf-8?b?PT94?= <ada@kenton.example>"),
        ("x" * 53, f"To: {'x' * 53} <ada@kenton.example>"),
        ("x" * 54, f"To: {'x' * 54}\r\n <ada@kenton.example>"),
    ],
)
def test_names_stand_before_the_address_on_lines_of_78(name: str, header: str) -> None:
    wire = render(prepare(), name=name)

    assert wire.startswith(f"{header}\r\n".encode())
    strict(wire)


@given(text=NASTY)
def test_any_template_text_arrives_or_is_refused(text: str) -> None:
    try:
        message = prepare(subject=text, text=text)
    except (MessageError, PlaceholderError):
        return
    parsed = strict(render(message))
    if "((" not in text and "[[" not in text:
        assert parsed["Subject"] == clean_line(clean_lines(text).strip()).strip()
        received = body(parsed, "plain").replace("\r\n", "\n")
        assert received.startswith(clean_lines(text).rstrip())


@given(html=st.one_of(NASTY, st.text(alphabet="<>/apscrit\"'= &;((login))[]", max_size=80)))
def test_no_template_html_breaks_out(html: str) -> None:
    try:
        message = prepare(html=html)
    except (MessageError, PlaceholderError):
        return
    parsed = Words(body(strict(render(message, {"login": "<script>"})), "html"))
    assert "script" not in parsed.tags
    assert "foot" not in parsed.tags


@given(lines=st.lists(st.binary(max_size=5).filter(lambda b: b"\n" not in b and b"\r" not in b)))
def test_dot_stuffing_can_be_undone(lines: list[bytes]) -> None:
    data = b"".join(line + b"\r\n" for line in lines)
    stuffed = dot_stuff(data)

    assert b"\r\n.\r\n" not in b"\r\n" + stuffed
    undone = (b"\r\n" + stuffed).replace(b"\r\n.", b"\r\n")[2:]
    assert undone == data


def test_html_loses_what_mail_must_not_carry() -> None:
    document = (
        prepare(
            html='<p onclick="x()" style="color:red">Hi<script>alert(1)</script>'
            '<img src="http://track.example"><a href="javascript:alert(1)">x</a></p>'
        )
        .preview({})
        .html
    )

    for trace in ("onclick", "script", "track.example", "javascript", "alert"):
        assert trace not in document
    assert "prefers-color-scheme: dark" in document
    assert 'name="color-scheme" content="light dark"' in document


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "data:text/html,x", "//evil", "x", "https://a b", 'https://"']
)
def test_a_link_that_is_none_is_refused_without_repeating_it(link: str) -> None:
    with pytest.raises(MessageError) as caught:
        render(PERSONAL, {"portal link": link})

    assert "((portal link))" in str(caught.value)
    assert link not in str(caught.value).replace("https://, http://", "").split("must")[0]


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="((login))">x</a>', "A link must begin with"),
        ('<a href="https://x" title="((login))">x</a>', "Nothing can be filled in"),
        ('<p class="((login))">x</p>', "Nothing can be filled in"),
        ("<!-- ((login)) --><p>x</p>", "Nothing can be filled in"),
        ("<p>a [[b</p><p>((login))]]</p>", "whole elements"),
        ("<table>[[<tr><td>((login))</td></tr>]]</table>", "Nothing can be filled in|whole"),
    ],
)
def test_placeholders_where_html_cannot_have_them_are_refused(html: str, problem: str) -> None:
    with pytest.raises(PlaceholderError, match=problem):
        prepare(html=html)


def test_a_value_in_a_query_cannot_add_to_the_link() -> None:
    message = prepare(html='<a href="https://x.example/?u=((login))">x</a>')

    links = Words(message.preview({"login": 'a&b="c"#d'}).html).links

    assert links[0] == "https://x.example/?u=a%26b%3D%22c%22%23d"


def test_links_on_the_wire_are_checked_and_escaped_like_those_on_pages() -> None:
    message = prepare(html='<a href="https://x.example/?u=((login))">x</a>')
    assert Words(body(strict(render(message, {"login": "a/b;c#d e"})), "html")).links[0] == (
        "https://x.example/?u=a%2Fb%3Bc%23d%20e"
    )

    mail = compile_message(
        *load_system_mail("password_link", "en"),
        sender="a@b.example",
        provider=PROVIDER,
        language="en",
        system=True,
    )
    with pytest.raises(MessageError, match="reset link"):
        render(mail, {"reset link": "javascript:alert(1)"})


def test_a_subject_never_carries_a_password() -> None:
    with pytest.raises(PlaceholderError, match="A subject cannot carry"):
        prepare(subject="Your password: ((portal password))")


def test_a_missing_value_is_an_error_and_not_an_empty_password() -> None:
    with pytest.raises(MessageError, match="portal password"):
        prepare(text="((portal password))").preview({})


@pytest.mark.parametrize("part", ["subject", "text", "html"])
def test_an_empty_part_is_refused(part: str) -> None:
    with pytest.raises(MessageError, match="empty"):
        prepare(**{part: " \n"})


@pytest.mark.parametrize(
    ("address", "wire", "utf8"),
    [
        ("ada@example.org", "ada@example.org", False),
        ("a.d+a@ex-ample.org", "a.d+a@ex-ample.org", False),
        ("ada@bücher.example", "ada@xn--bcher-kva.example", False),
        ("jürgen@bücher.example", "jürgen@xn--bcher-kva.example", True),
        ("用户@例え.jp", "用户@xn--r8jz45g.jp", True),
    ],
)
def test_addresses_on_the_wire(address: str, wire: str, utf8: bool) -> None:
    assert envelope_address(address) == (wire, utf8)


@pytest.mark.parametrize(
    "address",
    ["", "ada", "@x.org", "ada@", "a b@x.org", "a@x..org", "a@-x.org", "a@x.org\r\nRCPT", "a\0@x.y",
     ".a@x.org", "a..b@x.org", "<a@x.org>", "a@[127.0.0.1]", "ada@xn--é.org", "a" * 65 + "@x.org",
     "a@" + "x" * 64 + ".org", "a\u202e@x.org", "a\u3000b@x.org", "a@b@x.org"],
)  # fmt: skip
def test_addresses_that_cannot_be_used(address: str) -> None:
    with pytest.raises(AddressError):
        envelope_address(address)


def test_only_a_local_part_beyond_ascii_makes_headers_utf8() -> None:
    name, address = "Jürgen", "ü@bücher.example"
    wire = render(prepare(), name=name, address=address)

    assert "To: =?utf-8?b?SsO8cmdlbg==?= <ü@xn--bcher-kva.example>".encode() in wire
    assert render(prepare(), name=name, address="a@bücher.example").isascii()


@pytest.mark.parametrize("message_id", ["1@x", "<1>", "<a@b>\r\nX: y", "<a b@c>", "<é@x>"])
def test_a_message_id_must_be_one(message_id: str) -> None:
    with pytest.raises(ValueError, match="message_id"):
        prepare().render({}, to_name="", to_address="a@b.c", message_id=message_id, date=DATE)


@pytest.mark.parametrize("slug", DEFAULT_TEMPLATES)
def test_the_texts_that_come_with_the_system_render_in_every_language(slug: str) -> None:
    templates = load_default_template(slug)

    expected = {"en", "de"} if slug.endswith("update") else {"en", "de", "fr", "nl"}
    assert set(templates) == expected
    secrets = set()
    for language, (subject, text, html) in templates.items():
        message = compile_message(
            subject, text, html, sender="a@b.example", provider=PROVIDER, language=language
        )
        secrets.add(message.secrets)
        parsed = strict(render(message))
        assert parsed["Content-Language"] == language
        for kind in ("plain", "html"):
            content = body(parsed, kind)
            for secret in message.secrets:
                assert sample_values()[secret] in content
            assert not re.search(r"\(\(|\]\]|\[\[|%\(", content)
            assert "Foyer Communications" in content
            assert "help@portal.example" in content
    assert secrets == {
        {
            "welcome": frozenset({"portal password", "application password"}),
            "password-reset": frozenset({"portal password"}),
        }.get(slug, frozenset())
    }


def test_empty_optional_parts_leave_no_hole() -> None:
    subject, text, html = load_default_template("welcome")["en"]
    empty = {"extension": "", "setup instructions": "", "services": "", "application link": ""}

    shown = prepare(subject, text, html).preview(sample_values() | empty)

    assert "\n\n\n" not in shown.text
    assert "Extension" not in shown.text + shown.html
    assert "How to set up" not in shown.text + shown.html


@pytest.mark.parametrize("language", ["en", "de", "fr", "nl", "pt-BR"])
def test_the_password_link_mail_speaks_the_readers_language_or_english(language: str) -> None:
    mail = load_system_mail("password_link", language)
    message = compile_message(
        *mail, sender="a@b.example", provider=PROVIDER, language="en", system=True
    )

    assert message.placeholders == {"first name", "reset link", "valid for"}
    link = sample_values()["reset link"]
    parsed = strict(render(message))
    assert link in body(parsed, "plain")
    assert link in Words(body(parsed, "html")).links
    if language == "pt-BR":
        assert mail == load_system_mail("password_link", "en")


def test_the_text_on_the_button_can_be_read_on_any_accent() -> None:
    def button(accent: str) -> str:
        provider = ProviderBranding(name="X", accent=accent)
        html = '<a class="button" href="https://x.example">Open</a>'
        message = compile_message(
            "s", "t", html, sender="a@b.example", provider=provider, language="en"
        )
        found = re.search(r'class="button" [^>]*style="([^"]*)"', message.preview({}).html)
        assert found
        return found[1]

    assert "color: #111111" in button("#ffee00")
    assert "color: #ffffff" in button("#123456")
    assert "background-color: #123456" in button("#123456")
    assert "url(" not in button("red;background:url(x)")
