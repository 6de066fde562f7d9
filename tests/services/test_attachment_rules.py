"""What may be attached: names that do nothing, and files that are what they are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import fold
from services.attachment_rules import KINDS, LONGEST_NAME, clean_name, kind_of
from services.errors import InvalidInput
from tests.support.attachments import PDF, PNG, TEXT


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("First steps.pdf", "First steps.pdf"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\Ada\\First steps.pdf", "First steps.pdf"),
        ("a\r\nBcc: eve@evil.example\r\n.pdf", "a Bcc- eve@evil.example.pdf"),
        ('a"; filename="b.pdf', "a- filename-b.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("\u2066\u200fשלום\u2069.pdf", "שלום.pdf"),
        (" . hidden .pdf", "hidden.pdf"),
        ("...", ""),
        ("", ""),
        ("Zoe\u0308.pdf", "Zoë.pdf"),
        ("a\0b\ud800.pdf", "ab.pdf"),
        ("((first name)) =cmd|calc!A1.txt", "((first name)) -cmd-calc!A1.txt"),
        ("<script>alert(1)</script>.pdf", "script-.pdf"),
    ],
)
def test_names_are_cleaned(typed: str, kept: str) -> None:
    assert clean_name(typed) == kept


@given(st.text(max_size=400), st.sampled_from(["pdf", "PNG", "x" * 40, ""]))
def test_a_cleaned_name_is_one_for_headers_and_disks(stem: str, ending: str) -> None:
    name = clean_name(f"{stem}.{ending}")
    assert max(len(name), len(fold(name))) <= LONGEST_NAME
    assert name.isprintable()
    assert not re.search(r'[<>:"/\\|?*%;=]', name)
    assert not name.startswith((".", " "))
    name.encode()
    assert clean_name(name) == name


def test_a_long_name_keeps_its_ending() -> None:
    name = clean_name("x" * 300 + ".pdf")
    assert len(name) == LONGEST_NAME
    assert name.endswith("x.pdf")


@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("a.pdf", PDF, "application/pdf"),
        ("A.PDF", b"\n" * 10 + PDF, "application/pdf"),
        ("a.png", PNG, "image/png"),
        ("a.jpg", b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        ("a.jpeg", b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        ("a.gif", b"GIF89a...", "image/gif"),
        ("a.webp", b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("a.txt", TEXT, "text/plain; charset=utf-8"),
        ("a.vcf", b"\xef\xbb\xbfBEGIN:VCARD\r\nEND:VCARD\r\n", "text/vcard; charset=utf-8"),
        ("a.ics", b"begin:vcalendar\r\nEND:VCALENDAR\r\n", "text/calendar; charset=utf-8"),
    ],
)
def test_each_kind_is_known_by_its_ending_and_content(
    name: str, content: bytes, content_type: str
) -> None:
    assert kind_of(name, content).content_type == content_type


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.exe", b"MZ", "none of the kinds"),
        ("a.html", b"<html>", "none of the kinds"),
        ("a.svg", b"<svg>", "none of the kinds"),
        ("a.pdf.exe", PDF, "none of the kinds"),
        ("a.zip", b"PK\x03\x04", "none of the kinds"),
        ("a.docm", b"PK\x03\x04", "none of the kinds"),
        ("pdf", PDF, "none of the kinds"),
        (".pdf", PDF, "none of the kinds"),
        ("", PDF, "The file is none"),
        ("a.pdf", b"", "is empty"),
        ("a.pdf", b"MZ\x90\x00", "called a PDF file"),
        ("a.png", PDF, "called a PNG file"),
        ("a.jpg", PNG, "called a JPEG file"),
        ("a.gif", b"<script>", "called a GIF file"),
        ("a.webp", b"RIFF....WAVE", "called a WebP file"),
        ("a.txt", b"\xff\xfe\x00a", "not plain text in UTF-8"),
        ("a.txt", b"a\x00b", "not plain text in UTF-8"),
        ("a.vcf", b"BEGIN:VCALENDAR", "called a vCard file"),
        ("a.ics", b"<html>BEGIN:VCALENDAR", "called a iCalendar file"),
    ],
)
def test_what_may_not_be_attached_is_refused_in_words(
    name: str, content: bytes, words: str
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(words)) as refused:
        kind_of(name, content)
    assert refused.value.field == "file"


def test_no_kind_is_one_that_a_browser_runs() -> None:
    for kind in KINDS:
        assert not re.search("html|xml|script|svg", kind.content_type)
