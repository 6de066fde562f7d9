"""What rows of lists are put together from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from flask import Flask
from markupsafe import Markup, escape

from blueprints.markup import Parts, as_text

SHOWN = [
    "plain",
    "<b>",
    "a & b",
    "it's",
    'a "quote"',
    "",
    "é – \u202e",
    7,
    None,
    Markup("<i>&</i>"),
]


@pytest.mark.parametrize("value", SHOWN)
def test_text_is_escaped_once_however_often_it_is_passed_on(value: object) -> None:
    assert as_text(value) == escape(value)
    assert as_text(as_text(value)) == escape(value)


@pytest.fixture
def parts(app: Flask) -> Parts:
    found: Parts = app.extensions["parts"]
    return found


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_every_part_escapes_what_it_is_given(parts: Parts) -> None:
    bad = "<b>\"'&"
    made = [
        parts.pill("good", bad),
        parts.truncated(bad),
        parts.td_select(bad, bad, name=bad),
        parts.th(bad, bad, bad, bad, target=bad),
        parts.th_select(bad),
        parts.filter_chips([(bad, bad, bad)], bad, bad),
        parts.pager(bad, bad, [(25, bad, True)], bad, bad),
        parts.button(bad, bad, bad, bad, bad, attrs={bad: bad}),
        parts.button_link(bad, bad, bad, attrs={bad: bad}),
        parts.breadcrumbs([(bad, bad), (bad, None), (bad, None)]),
        parts.page_header(bad, bad, bad),
        parts.search_form(bad, bad, bad, bad, bad, [(bad, bad)]),
        parts.empty_state(bad, bad),
        parts.toast(bad, bad),
        parts.time(None, bad),
    ]
    for each in made:
        assert isinstance(each, Markup)
        assert "<b>" not in each
        assert "\"'" not in each
        assert escape("<b>") in each


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_time_has_its_words_and_its_exact_self(parts: Parts) -> None:
    at = datetime(2026, 2, 3, 14, 5, 9, tzinfo=UTC)
    shown = parts.time(at)
    assert 'datetime="2026-02-03T14:05:09+00:00"' in shown
    assert 'title="3 February 2026, 14:05:09 UTC"' in shown
    east = timezone(timedelta(hours=9), "JST")
    assert 'title="3 February 2026, 23:05:09 JST"' in parts.time_by(at, east)
    assert parts.time_by(None, east) == ""
