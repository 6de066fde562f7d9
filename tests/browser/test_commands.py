"""The maintenance command window: from the paste of a handbook's examples to the download."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.installation import Installation
from tests.browser.people import OPERATOR, OpenPerson, Person

pytestmark = pytest.mark.xdist_group("commands")

SEED = """$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ001
$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ001;CQ002;CQ003
$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle;Stand4PhoneNextGenBundle |CQ001;CQ002;CQ003"""


@pytest.fixture(scope="module")
def own(
    browser_type_launch_args: dict[str, object],
    _make_installation: Callable[[str], AbstractContextManager[Installation]],
) -> Iterator[Installation]:
    """An installation whose users nobody else mails: the handbook's examples name all of CQ001."""
    with _make_installation("sqlite") as made:
        yield made


@pytest.fixture
def operator(own: Installation, open_person: OpenPerson) -> Person:
    return open_person(OPERATOR, at=own)


def open_window(person: Person) -> None:
    person.page.get_by_role("link", name="Commands").first.click()
    person.sees_heading("Commands")


def window_of(person: Person) -> Locator:
    """The text area."""
    return person.page.get_by_label("Commands", exact=True)


def submit(person: Person, text: str) -> None:
    window_of(person).fill(text)
    person.page.get_by_role("button", name="Submit").click()


def chosen_text(page: Page) -> str:
    """What is selected in the window."""
    chosen: str = page.locator("#text").evaluate(
        "field => field.value.slice(field.selectionStart, field.selectionEnd)"
    )
    return chosen


def test_the_seeds_examples_from_the_paste_to_the_download(
    own: Installation, operator: Person
) -> None:
    page = operator.page
    page.goto("/konos/commands.jsp")
    operator.sees_heading("Commands")
    submit(operator, SEED)
    operator.sees_heading("Dry run")
    overview = page.get_by_role("table", name="All mailings of this dry run")
    expect(overview.locator("tbody tr")).to_have_count(3)
    expect(page.locator("#toasts")).to_be_empty()
    frame = page.frame_locator("iframe").first
    expect(frame.get_by_text("Welcome").first).to_be_visible()

    button = page.get_by_role("button", name="Reset passwords and send to")
    total = int(re.sub(r"\D", "", button.inner_text()))
    button.dblclick()
    operator.sees_heading("Commands run")
    expect(page.locator("#commands-progress")).to_contain_text(f"Finished. {total} of {total} sent")
    page.reload()
    expect(page.locator("#commands-progress")).to_contain_text(f"Finished. {total} of {total} sent")
    assert len(own.mails_to("")) == total

    page.get_by_role("link", name="Mailing 2", exact=True).click()
    operator.sees_heading("Welcome")
    operator.sees_state("Finished")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with download.value.path().open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["Customer"] for row in rows} == {"CQ001", "CQ002", "CQ003"}
    assert sum(row["State"] == "sent" for row in rows) == int(
        page.locator("#count-sent").inner_text()
    )

    open_window(operator)
    newest = page.locator("#commands-history tbody tr").first
    expect(newest).to_contain_text(f"{total} mails accepted")
    newest.get_by_role("link", name=re.compile("^Use again")).click()
    expect(window_of(operator)).to_have_value(SEED)


def test_errors_are_underlined_and_lead_to_their_place(operator: Person) -> None:
    operator.expects(422)
    page = operator.page
    open_window(operator)
    wrong = "# first\n$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundel|CQ001;CQ009"
    submit(operator, wrong)
    alert = page.get_by_role("alert")
    expect(alert).to_be_focused()
    expect(alert).to_contain_text("2 things to correct, nothing was run")
    expect(alert).to_contain_text("Entry3PhoneNextGenBundle")
    expect(page.locator("mark")).to_have_text(["Entry3PhoneNextGenBundel", "CQ009"])
    line = page.locator("mark").first.evaluate("mark => getComputedStyle(mark).textDecorationLine")
    assert line == "underline"
    expect(window_of(operator)).to_have_value(wrong)
    alert.get_by_role("link", name="Line 2, column 26").click()
    expect(window_of(operator)).to_be_focused()
    assert chosen_text(page) == "Entry3PhoneNextGenBundel"
    page.keyboard.type("Entry3PhoneNextGenBundle")
    page.keyboard.press("Control+Enter")
    expect(page.locator("mark")).to_have_text(["CQ009"])


def test_an_example_joins_what_was_typed(operator: Person) -> None:
    page = operator.page
    open_window(operator)
    field = window_of(operator)
    field.fill("# mine")
    page.locator(".command-example", has_text="$$HELP$$").click()
    expect(field).to_have_value("# mine\n$$HELP$$")
    page.keyboard.press("Control+z")
    expect(field).to_have_value("# mine")
    page.keyboard.press("Control+y")
    page.get_by_role("button", name="Submit").click()
    operator.sees_heading("Answer")
    expect(page.get_by_role("table")).to_contain_text("$$LIST BUNDLES$$")


def test_the_history_is_filtered_in_place(operator: Person) -> None:
    page = operator.page
    open_window(operator)
    submit(operator, "$$HELP$$")
    operator.sees_heading("Answer")
    open_window(operator)
    field = window_of(operator)
    field.fill("# not lost")
    page.locator("#filter-state").click()
    page.get_by_role("link", name="Refused", exact=True).click()
    expect(page.get_by_text("No commands match these filters.")).to_be_visible()
    expect(page).to_have_url(re.compile("state=refused"))
    expect(field).to_have_value("# not lost")
    page.get_by_role("link", name="Remove this filter").click()
    expect(page.locator("#commands-history tbody tr").first).to_contain_text("$$HELP$$")
    expect(field).to_have_value("# not lost")


def test_without_scripts_an_example_opens_in_the_window(
    own: Installation, open_person: OpenPerson
) -> None:
    operator = open_person(OPERATOR, at=own, java_script_enabled=False)
    page = operator.page
    open_window(operator)
    expect(page.get_by_text("what you have typed is not kept")).to_be_visible()
    page.locator(".command-example", has_text="$$LIST BUNDLES$$").click()
    expect(window_of(operator)).to_have_value("$$LIST BUNDLES$$ CQ001;CQ002")
    page.get_by_role("button", name="Submit").click()
    operator.sees_heading("Answer")
