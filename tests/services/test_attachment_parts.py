"""Attachments on the wire: what a mail program reads is what was attached, whatever that is."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage

from hypothesis import given, settings
from hypothesis import strategies as st

from services.attachment_parts import AttachedFile, wire_parts
from services.attachment_rules import KINDS, clean_name
from services.mail_headers import dot_stuff
from tests.services.test_messages import prepare, render, strict

NAMES = st.text(min_size=1, max_size=120).map(lambda text: clean_name(f"{text}.pdf"))
FILES = st.builds(
    AttachedFile,
    NAMES.filter(lambda name: name != ".pdf"),
    st.sampled_from([each.content_type for each in KINDS]),
    st.binary(min_size=1, max_size=2000),
)


def whole(files: list[AttachedFile]) -> bytes:
    return render(prepare().before_attachments) + wire_parts(files)


def content_of(part: EmailMessage) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def attached(wire: bytes) -> list[tuple[str, str, bytes]]:
    message = email.message_from_bytes(wire, policy=email.policy.SMTP)
    return [
        (part.get_filename() or "", part.get_content_type(), content_of(part))
        for part in message.walk()
        if part.get_content_disposition() == "attachment"
    ]


@settings(deadline=None)
@given(st.lists(FILES, min_size=1, max_size=4))
def test_every_file_arrives_as_it_was(files: list[AttachedFile]) -> None:
    wire = whole(files)
    strict(wire)
    assert attached(wire) == [
        (each.name, each.content_type.partition(";")[0], each.content) for each in files
    ]


def test_dots_and_boundaries_inside_a_file_stay_inside() -> None:
    content = (
        b".\r\n..\r\n\r\n--=_files_foyer--\r\n--=_foyer\r\nBcc: eve@evil.example\r\n\x00\xff" * 30
    )
    wire = whole([AttachedFile("a.pdf", "application/pdf", content)])
    assert dot_stuff(wire) == wire
    assert attached(wire) == [("a.pdf", "application/pdf", content)]
    assert b"\r\nBcc" not in wire


def test_text_and_html_are_the_body_and_the_files_are_not() -> None:
    wire = whole([AttachedFile("Zoë’s notes.txt", "text/plain; charset=utf-8", b"Not the body")])
    message = strict(wire)
    assert message.get_content_type() == "multipart/mixed"
    (alternative, file) = message.iter_parts()
    assert alternative.get_content_type() == "multipart/alternative"
    assert [each.get_content_type() for each in alternative.iter_parts()] == [
        "text/plain",
        "text/html",
    ]
    plain = message.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().startswith("Hello")
    assert file.get_filename() == "Zoë’s notes.txt"
    assert message["Subject"] == "Hello"


def test_what_goes_before_the_files_is_the_message_without_them() -> None:
    """All that differs is that the text is a part; a message without files is what it was."""
    alone = render(prepare())
    before = render(prepare().before_attachments)
    opening = re.compile(
        rb'Content-Type: multipart/mixed; boundary="([^"]+)"\r\n\r\n--\1\r\n', re.DOTALL
    )
    assert opening.search(before)
    assert opening.sub(b"", before) == alone
    assert b"mixed" not in alone


def test_a_line_of_a_file_is_as_long_as_it_may_be() -> None:
    wire = wire_parts([AttachedFile("a.pdf", "application/pdf", bytes(1000))])
    lines = wire.partition(b"\r\n\r\n")[2].split(b"\r\n")
    assert {len(line) for line in lines[:17]} == {76}
