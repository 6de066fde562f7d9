"""Texts of e-mail templates: what is refused and where, what is taken out, what is remarked."""

from __future__ import annotations

import pytest

from models import TemplateKind
from services.email_template_texts import (
    HTML_LENGTH,
    SUBJECT_LENGTH,
    TEXT_LENGTH,
    TypedText,
    check_text,
    check_texts,
    find_remarks,
    placeholders_used,
)
from services.errors import InvalidInputs
from services.mail_html import clean_html
from services.mail_plain_texts import text_from_html
from services.mail_texts import DEFAULT_TEMPLATES, load_default_template
from services.placeholders import parse, sample_values

pytestmark = [
    pytest.mark.parametrize("engine_name", ["sqlite"]),
    pytest.mark.usefixtures("app_context"),
]

GOOD = TypedText("Hello ((first name))", "Hello ((first name))", "<p>Hello ((first name))</p>")


def faults_of(
    typed: dict[str, TypedText], kind: TemplateKind = TemplateKind.GENERAL
) -> dict[str, str]:
    with pytest.raises(InvalidInputs) as caught:
        check_texts(kind, typed)
    return dict(caught.value.faults)


def english(**parts: str) -> dict[str, TypedText]:
    values = {"subject": GOOD.subject, "text": GOOD.text, "html": GOOD.html, **parts}
    return {"en": TypedText(**values)}


def remarks_on(typed: dict[str, TypedText], kind: TemplateKind = TemplateKind.GENERAL) -> str:
    return " ".join(each.sentence for each in find_remarks(kind, check_texts(kind, typed)))


# --- Refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "typed", "told"),
    [
        ("subject", "", "write the subject"),
        ("subject", "x" * (SUBJECT_LENGTH + 1), "The limit is 255"),
        ("subject", "one\r\nBcc: two@evil.example", "one line"),
        ("subject", "Your ((portal password))", "a subject cannot carry"),
        ("subject", "((frist name))", "Did you mean “((first name))”?"),
        ("html", "", "write the HTML"),
        ("html", "x" * (HTML_LENGTH + 1), f"The limit is {HTML_LENGTH:,}"),
        ("html", "<p>one</p>\n<p>((extention))</p>", "Line 2, column 4"),
        ("html", "<p>((reset link))</p>", "There is no placeholder"),
        ("html", "<p>[[ nothing ]]</p>", "needs a placeholder"),
        ("html", "[[<p>((extension))</p>", "not closed"),
        ("html", "<p>[[((extension))</p>]]", "whole elements"),
        ("html", '<a href="((first name))">x</a>', "placeholder for a link"),
        ("html", '<img src="https://x.example/((login))">', "Nothing can be filled in"),
        ("html", "<script>((first name))</script>", "Nothing can be filled in"),
        ("text", "x" * (TEXT_LENGTH + 1), f"The limit is {TEXT_LENGTH:,}"),
        ("text", "a ]] b", "without “[[” before it"),
        ("text", "nul \0 here", "cannot be stored"),
        ("text", "half \ud800 pair", "cannot be stored"),
    ],
)
def test_a_fault_is_told_at_its_field(part: str, typed: str, told: str) -> None:
    faults = faults_of(english(**{part: typed}))
    assert list(faults) == [f"{part}_en"]
    assert told in faults[f"{part}_en"]
    assert "English" in faults[f"{part}_en"]


def test_every_fault_of_every_language_is_told_at_once() -> None:
    typed = {"en": TypedText("", "((x))", "<p>((y))</p>"), "de": TypedText("", "", "<p>ok</p>")}
    assert set(faults_of(typed)) == {"subject_en", "text_en", "html_en", "subject_de"}
    assert "at least one language" in faults_of({})["subject_en"]
    assert "at least one language" in faults_of({"en": TypedText(" ", "\n", "")})["subject_en"]


def test_languages_that_carry_other_passwords_are_refused() -> None:
    secret = TypedText("New", "((portal password))", "<p>((portal password))</p>")
    assert "the portal password" in faults_of({"en": secret, "de": GOOD})["html_de"]
    assert check_texts(TemplateKind.GENERAL, {"en": secret, "de": secret})


def test_a_password_reset_carries_the_password() -> None:
    faults = faults_of({"en": GOOD}, TemplateKind.PASSWORD_RESET)
    assert "((portal password))" in faults["html_en"]


@pytest.mark.parametrize("slug", DEFAULT_TEMPLATES)
def test_what_comes_with_foyer_can_be_saved_as_it_is(slug: str) -> None:
    typed = {lang: TypedText(*parts) for lang, parts in load_default_template(slug).items()}
    ready = check_texts(TemplateKind.GENERAL, typed)
    assert {lang: each.html.strip() for lang, each in ready.items()} == {
        lang: each.html.strip() for lang, each in typed.items()
    }
    assert not any(each.taken_out for each in ready.values())


# --- Cleaned -------------------------------------------------------------------------------------


def test_what_mails_must_not_carry_is_taken_out_and_told() -> None:
    cleaned = clean_html(
        '<p onclick="x()" class="muted x">Hi ((first name))<script>alert(1)</script></p>'
        '<form action="/x"><b>bold</b></form><a href="javascript:alert(1)">l</a><!-- c -->'
        '<img src="http://a.example/b.png"><iframe src="https://x.example"></iframe>'
    )
    for trace in ("onclick", "script", "alert", "form", "javascript", "<!--", "http:", "iframe"):
        assert trace not in cleaned.html
    assert '<p class="muted">Hi ((first name))</p>' in cleaned.html
    assert "<b>bold</b>" in cleaned.html
    told = " ".join(cleaned.taken_out)
    for word in ("<script>", "onclick at <p>", "the class “x”", "<form>", "href at <a>", "src at"):
        assert word in told
    assert clean_html(cleaned.html).taken_out == ()
    assert clean_html(cleaned.html).html == cleaned.html


def test_style_sheets_are_written_into_the_elements() -> None:
    source = (
        "<style>p { color: #123456; position: fixed; background: url(https://x.example/t) }"
        "</style><p>[[((extension))]]</p>"
    )
    ready = check_text("en", TypedText("S", "", source))
    assert ready.html == '<p style="color:#123456">[[((extension))]]</p>'
    assert any("position" in each for each in ready.taken_out)
    shown = ready.prepared.preview(sample_values()).html
    assert "#123456" in shown
    assert "x.example" not in shown


def test_hostile_html_is_harmless_whichever_way_it_is_kept() -> None:
    for html in (
        "<p>x</p><svg/onload=alert(1)>",
        "<p>x</p><math><mtext></p><style><img src=x onerror=alert(1)></style>",
        '<p style="background:url(javascript:alert(1));color:red">x</p>',
        "<p>x<!--><img src=x onerror=alert(1)>--></p>",
        '<a href="jav&#x09;ascript:alert(1)">x</a>',
        "<p>x</p><base href='https://evil.example/'><meta http-equiv=refresh content=0>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>x</p></noscript>",
    ):
        ready = check_text("en", TypedText("S", "", html))
        for shown in (ready.html, ready.prepared.preview(sample_values()).html):
            for trace in ("onload", "onerror", "javascript", "<svg", "<base", "evil.example"):
                assert trace not in shown.lower(), html


def test_a_text_is_made_where_none_is_given() -> None:
    ready = check_text("en", TypedText("S", "  \n", "<h1>Hi</h1><p>((first name))</p>"))
    assert ready.text_made
    assert ready.text == "Hi\n\n((first name))\n"
    assert not check_text("en", GOOD).text_made


def test_plain_text_keeps_what_html_says() -> None:
    html = (
        "<h1>Title</h1>\n<p>One <b>bold</b> word.<br>Line &amp; two</p>\n"
        '[[<p><a href="((application link))">Open</a></p>]]\n'
        "[[<h2>Ext</h2>\n<p>((extension))</p>]]\n"
        '<ul><li>a</li><li>b <i>c</i></li></ul><p><a href="mailto:x@y.example">x@y.example</a></p>'
        "<style>p{}</style><pre>  keep\n    this</pre>"
    )
    text = text_from_html(html)
    assert text == (
        "Title\n\nOne bold word.\nLine & two\n\n[[Open: ((application link))]]\n\n"
        "[[Ext\n\n((extension))]]\n\n- a\n- b c\n\nx@y.example\n\n  keep\n    this\n"
    )
    assert parse(text)


# --- Remarked ------------------------------------------------------------------------------------

SECRET = "<p>((portal password))</p>"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (english(text="((portal password))", html=SECRET), "resets the portal password"),
        (english(html=SECRET), "text lacks the portal password"),
        (english(text="((portal password))"), "HTML lacks the portal password"),
        (english(), "no text in Deutsch, Français or Nederlands"),
        (english(html='<a href="http://x.example/a">x</a>'), "http://x.example/a is a link"),
        (english(text="See http://x.example/b."), "http://x.example/b. is a link"),
        (english(html='<p>x<img src="https://img.example/a.png"></p>'), "from img.example"),
        (english(text=""), "made from the HTML"),
    ],
)
def test_remarks_are_no_faults(typed: dict[str, TypedText], told: str) -> None:
    assert told in remarks_on(typed)


def test_a_good_template_gets_no_remark() -> None:
    text = TypedText("S", "See https://x.example", '<p><a href="https://x.example">x</a></p>')
    assert remarks_on(dict.fromkeys(("en", "de", "fr", "nl"), text)) == ""


def test_a_welcome_without_a_password_is_remarked_on_and_one_with_is_not() -> None:
    assert "carries no portal password" in remarks_on(english(), TemplateKind.WELCOME)
    both = english(text="((portal password))", html=SECRET)
    assert "password" not in remarks_on(both, TemplateKind.WELCOME)


def test_placeholders_outside_optional_parts_leave_gaps() -> None:
    ready = check_texts(
        TemplateKind.GENERAL,
        english(text="((bundle)) [[((extension))]]", html="<p>[[((services))]]((first name))</p>"),
    )
    assert placeholders_used(ready) == {
        "first name": True,
        "extension": False,
        "bundle": True,
        "services": False,
    }
