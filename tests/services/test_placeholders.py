"""The template syntax and its errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.placeholders import (
    PLACEHOLDERS,
    Field,
    OptionalPart,
    PlaceholderError,
    editor_placeholders,
    parse,
    placeholders_in,
    sample_values,
)


@pytest.mark.parametrize(
    "written",
    ["((first name))", "((First Name))", "(( first  name ))", "((first\u00a0name))",
     "((first&nbsp;name))", "((FIRST\nNAME))"],
)  # fmt: skip
def test_case_and_inner_spaces_do_not_matter(written: str) -> None:
    assert placeholders_in(f"Hello {written}, (see below)") == {"first name"}


def test_an_unknown_placeholder_is_named_with_its_place_and_what_was_meant() -> None:
    with pytest.raises(PlaceholderError) as caught:
        parse("Hello,\nyour ((frist name)) is")

    assert (caught.value.line, caught.value.column) == (2, 6)
    assert caught.value.suggestion == "first name"
    assert "Did you mean “((first name))”?" in str(caught.value)


def test_nothing_is_suggested_for_what_resembles_nothing() -> None:
    with pytest.raises(PlaceholderError) as caught:
        parse("((zzzzzzzz))")

    assert caught.value.suggestion is None


@pytest.mark.parametrize(
    ("written", "column"),
    [("a ((login", 3), ("a ((log ((login))", 3), ("a [[ ((login))", 3), ("a ]] b", 3),
     ("[[((login)) [[((email))]] ]]", 13), ("x [[nothing]]", 3)],
)  # fmt: skip
def test_marks_that_do_not_match_are_refused_where_they_stand(written: str, column: int) -> None:
    with pytest.raises(PlaceholderError) as caught:
        parse(written)

    assert (caught.value.line, caught.value.column) == (1, column)


def test_system_placeholders_are_hidden_from_editors() -> None:
    assert "reset link" not in {entry.name for entry in editor_placeholders()}
    with pytest.raises(PlaceholderError):
        parse("((reset link))")
    assert isinstance(parse("((reset link))", system=True)[0], Field)


def test_an_optional_part_on_its_own_lines_takes_its_line_ends_along() -> None:
    nodes = parse("A\n\n[[((login))]]\n\nB")

    part = nodes[1]
    assert isinstance(part, OptionalPart)
    assert part.nodes[-1] == "\n\n"
    assert nodes[2] == "B"


def test_every_placeholder_has_a_sample_and_a_description() -> None:
    assert set(sample_values()) == set(PLACEHOLDERS)
    assert all(entry.sample and entry.description for entry in PLACEHOLDERS.values())
    assert {entry.name for entry in PLACEHOLDERS.values() if entry.secret} == {
        "portal password",
        "application password",
        "reset link",
        "invitation link",
        "registration link",
    }


@given(st.text(alphabet="([])ab \nlogin"))
def test_any_text_is_parsed_whole_or_refused(text: str) -> None:
    try:
        nodes = parse(text)
    except PlaceholderError as error:
        line, column = error.line, error.column
    else:
        line = column = 1
        if all(isinstance(node, str) for node in nodes):
            assert "".join(node for node in nodes if isinstance(node, str)) == text

    assert 1 <= line <= text.count("\n") + 1
    assert 1 <= column <= len(text) + 1
