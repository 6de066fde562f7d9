"""Quoted-printable that goes over the wire as it is."""

import quopri

import markupsafe
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.quoted_printable import SOFT_BREAK, encode, encode_piece, is_plain

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.text(alphabet=".= \t\n\réx", max_size=300),
    st.lists(st.sampled_from([".", "..", "=", " ", "\t", "\n", "x" * 73, "x" * 75, "é" * 30])).map(
        "".join
    ),
)


def decoded(encoded: str) -> str:
    return quopri.decodestring(encoded.encode()).decode().replace("\r\n", "\n")


def check_lines(encoded: str) -> None:
    assert encoded.isascii()
    assert encoded.count("\n") == encoded.count("\r") == encoded.count("\r\n")
    for line in encoded.split("\r\n"):
        assert len(line) <= 76
        assert not line.startswith(".")
        assert not line.endswith((" ", "\t"))


@given(pieces=st.lists(TEXT, max_size=4))
@example(pieces=["." * 300])
@example(pieces=[".", ".", "."])
@example(pieces=["x" * 75 + " \n", "x" * 75 + "\t\nx"])
@example(pieces=["x" * 73 + "é", "x" * 74 + "é", "x" * 75 + "."])
def test_pieces_make_up_the_text_that_they_were(pieces: list[str]) -> None:
    encoded = "".join(map(encode_piece, pieces))

    check_lines(encoded)
    assert not encoded or encoded.endswith("\r\n")
    assert decoded(encoded) == "".join(pieces)


@given(before=TEXT, value=TEXT, after=TEXT)
def test_a_value_between_two_pieces_is_whole(before: str, value: str, after: str) -> None:
    line = encode_piece(before) + encode(value) + SOFT_BREAK + encode_piece(after)

    check_lines(line)
    assert decoded(line) == before + value + after


@given(value=st.one_of(TEXT, st.from_regex(r"[ -~]{1,80}", fullmatch=True)))
@example(value="")
@example(value="x" * 75)
def test_a_plain_value_is_the_same_in_every_form(value: str) -> None:
    if is_plain(value):
        assert encode(value) == value == str(markupsafe.escape(value))


@pytest.mark.parametrize("value", ["Ada Kenton", "p.kenton-2@kenton.example", "+49 (30) 100 %"])
def test_ordinary_values_are_plain(value: str) -> None:
    assert is_plain(value)


@pytest.mark.parametrize(
    "value", [".x", "a=b", "a\n", "a\r", "\n", "O'Brien", "<b>", "a&b", '"', "é", "\t", "x" * 76]
)
def test_values_that_need_encoding_are_not_plain(value: str) -> None:
    assert not is_plain(value)
