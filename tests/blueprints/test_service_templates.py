"""The pages of service templates: making one without scripts, two editors, versions, publishing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from extensions import db
from models import ServiceTemplate, ServiceTemplateVersion
from tests.support.pages import CheckingClient, Page, check_page

LANDLORD = "landlord@foyer.example"
AUDITOR = "auditor@foyer.example"
PROSPECTS = "operator@foyer.example"
URL = "/service-templates"
MARKUP = "<script>alert(1)</script>"

SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def landlord(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(LANDLORD)


@pytest.fixture
def starter(app: Flask) -> str:
    """The address of the template Starter."""
    with app.app_context():
        found = sa.select(ServiceTemplate.id).where(ServiceTemplate.name == "Starter")
        return f"{URL}/{db.session.scalars(found).one()}"


def fields_at(page: Page, action: str) -> dict[str, Any]:
    fields: dict[str, Any] = page.fields(page.one("form", action=action))
    return fields


def edit(client: CheckingClient, address: str, **changes: Any) -> TestResponse:
    """Save the form as it is shown now, but for the changes."""
    return client.post(address, data={**fields_at(client.page(address), address), **changes})


def act(client: CheckingClient, address: str, data: dict[str, Any], act: str) -> dict[str, Any]:
    """Press a button of the options; returns what the form has then."""
    response = client.post(address, data={**data, "act": act})
    assert response.status_code == 200
    return fields_at(check_page(response), address)


def labels(data: dict[str, Any]) -> list[str]:
    found = [name for name in data if name.startswith("option_") and name.endswith("_label")]
    return [data[name][0] for name in sorted(found)]


def test_a_template_is_made_copied_and_published_without_scripts(
    landlord: CheckingClient, sign_in_as: SignInAs
) -> None:
    new = f"{URL}/new"
    page = landlord.page(new)
    data = fields_at(page, new)
    boxes = page.all("input", name="bundles")
    data |= {"name": "Bakery", "group": "1", "bundles": boxes[0].get("value")}
    data = act(landlord, new, data, "add")
    data |= {"option_0_label": "Ovens", "option_0_kind": "count"}
    data |= {"option_0_minimum": "1", "option_0_maximum": "9"}
    response = landlord.post(new, data=data)
    assert response.status_code == 303
    address = response.location
    page = landlord.page(address)
    assert "Nobody can pick it yet" in page.text()
    assert "1 to 9" in page.text()
    data = fields_at(page, f"{address}/publish")
    assert landlord.post(f"{address}/publish", data=data).status_code == 303
    assert "offered to everybody" in landlord.page(address).text()
    wizard = sign_in_as(PROSPECTS)
    draft = wizard.submit("/tenant-registration/drafts")
    assert draft.status_code == 303
    picked = wizard.get(draft.location, follow_redirects=True)
    assert "Bakery" in check_page(picked).text()
    copy = f"{new}?from={address.rpartition('/')[2]}"
    data = fields_at(landlord.page(copy), new)
    assert data["name"] == ["Copy of Bakery"]
    assert labels(data) == ["Ovens"]
    assert landlord.post(new, data=data).status_code == 303


def test_options_are_added_moved_and_removed_and_nothing_typed_is_lost(
    landlord: CheckingClient, starter: str
) -> None:
    address = f"{starter}/edit"
    data = fields_at(landlord.page(address), address) | {"description": f"New {MARKUP}"}
    data = act(landlord, address, data, "add")
    data["option_2_label"] = ["Third"]
    data = act(landlord, address, data, "up-2")
    assert labels(data) == ["Telephone lines", "Third", "Voicemail by e-mail"]
    data = act(landlord, address, data, "down-0")
    assert labels(data) == ["Third", "Telephone lines", "Voicemail by e-mail"]
    data = act(landlord, address, data, "remove-1")
    assert labels(data) == ["Third", "Voicemail by e-mail"]
    assert data["description"] == [f"New {MARKUP}"]
    assert data["option_1_name"] == ["voicemail_to_email"]
    for nothing in ("remove-99", "up", "sideways-1", "\0", "add-" + "9" * 30):
        assert labels(act(landlord, address, data, nothing)) == labels(data)
    assert "Desk phones and voicemail" in landlord.page(starter).text(), "nothing is saved by that"


def test_no_more_options_than_there_may_be(landlord: CheckingClient, starter: str) -> None:
    address = f"{starter}/edit"
    data = fields_at(landlord.page(address), address)
    for _ in range(25):
        data = act(landlord, address, data, "add")
    assert len(labels(data)) == 20
    wild = {f"option_{place}_label": "x" for place in range(99)}
    response = landlord.post(address, data={**data, **wild})
    assert response.status_code == 422
    assert "20 options are the most" in check_page(response).text()
    odd = {"option_²_label": "x", f"option_{'9' * 5000}_label": "x", "option_0_other": "x"}
    assert labels(act(landlord, address, {**data, **odd}, "remove-5"))[:1] == ["Telephone lines"]


def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(
    landlord: CheckingClient, starter: str
) -> None:
    response = edit(
        landlord,
        f"{starter}/edit",
        name="",
        description=MARKUP,
        group=str(10**30),
        bundles=["x", str(10**30)],
        option_0_minimum="9" * 400,
        parameter_callback_retries="\0",
        connector="javascript:",
        start_rule="",
    )
    assert response.status_code == 422
    page = check_page(response)
    assert MARKUP not in page.source
    wrong = {each.get("name") for each in page.root.iter() if each.get("aria-invalid") == "true"}
    assert wrong >= {"name", "group", "option_0_minimum", "parameter_callback_retries", "connector"}
    data = fields_at(page, f"{starter}/edit")
    assert data["description"] == [MARKUP]
    assert data["option_0_minimum"] == ["9" * 400]
    assert "One of those chosen is no longer there" in page.text()


def test_two_editors_see_what_the_other_changed(
    landlord: CheckingClient, sign_in_as: SignInAs, starter: str
) -> None:
    address = f"{starter}/edit"
    second = sign_in_as(LANDLORD)
    seen = fields_at(second.page(address), address)
    assert edit(landlord, address, description="Of the first").status_code == 303
    response = second.post(address, data={**seen, "description": "Of the second"})
    assert response.status_code == 409
    page = check_page(response)
    assert "Description is now: Of the first" in page.text()
    data = fields_at(page, address)
    assert data["description"] == ["Of the second"]
    assert second.post(address, data=data).status_code == 303
    assert "Version 3" in second.page(starter).text()
    assert edit(landlord, address, seen="none").status_code == 409


def test_versions_are_compared_and_restored(landlord: CheckingClient, starter: str) -> None:
    edit(landlord, f"{starter}/edit", description=f"Second {MARKUP}")
    page = landlord.page(f"{starter}/versions/1")
    assert "1 of 25 lines differ" in page.text()
    for wanted in ("2", "9", "x", "1" * 30):
        landlord.page(f"{starter}/versions/1?with={wanted}")
    assert landlord.get(f"{starter}/versions/9").status_code == 404
    data = fields_at(page, f"{starter}/versions/1/restore")
    assert landlord.post(f"{starter}/versions/1/restore", data=data).status_code == 303
    text = landlord.page(starter).text()
    assert "Version 3" in text
    assert "Desk phones and voicemail" in text
    again = landlord.post(f"{starter}/versions/1/restore", data=data, follow_redirects=True)
    assert "nothing was restored" in again.text
    assert "Version 1" in landlord.page(f"{starter}/versions").text()
    assert edit(landlord, f"{starter}/edit").status_code == 303
    assert "Nothing was changed" in landlord.get(starter).text


def test_a_template_that_lacks_something_says_what_and_is_not_published(
    app: Flask, landlord: CheckingClient, starter: str
) -> None:
    edit(landlord, f"{starter}/edit", bundles=[], email_templates=[])
    page = landlord.page(starter)
    assert "cannot be published yet" in page.text()
    assert "no bundle" in page.text()
    assert "no welcome mail" in page.text()
    response = landlord.submit(f"{starter}/publish", {"number": "2", "audience": "everybody"})
    assert response.status_code == 422
    assert "no welcome mail" in check_page(response).text()
    with app.app_context():
        version = db.session.scalars(
            sa.select(ServiceTemplateVersion.number)
            .join(
                ServiceTemplate, ServiceTemplate.published_version_id == ServiceTemplateVersion.id
            )
            .where(ServiceTemplate.name == "Starter")
        ).one()
        assert version == 1
    for audience in ("", "nobody", "\0"):
        data = {"number": "1", "audience": audience}
        assert landlord.submit(f"{starter}/publish", data).status_code == 422
    assert landlord.submit(f"{starter}/publish", {"audience": "staff"}).status_code == 404


def test_it_is_taken_back_archived_and_brought_back(landlord: CheckingClient, starter: str) -> None:
    assert landlord.submit(f"{starter}/unpublish").status_code == 303
    assert "Nobody can pick it yet" in landlord.page(starter).text()
    assert landlord.submit(f"{starter}/archive").status_code == 303
    assert "Starter" not in landlord.page(URL).text()
    assert "Starter" in landlord.page(f"{URL}?state=archived").text()
    for response in (
        landlord.get(f"{starter}/edit", follow_redirects=True),
        landlord.submit(f"{starter}/move", {"way": "up"}, follow_redirects=True),
        landlord.submit(
            f"{starter}/publish", {"number": "1", "audience": "staff"}, follow_redirects=True
        ),
    ):
        assert "is archived" in response.text
    assert landlord.submit(f"{starter}/unarchive").status_code == 303
    assert "Starter" in landlord.page(URL).text()


def test_the_order_is_changed(landlord: CheckingClient, starter: str) -> None:
    def names() -> list[str]:
        page = landlord.page(URL)
        return [page.text(each) for each in page.all("th", scope="row")]

    before = names()
    assert landlord.submit(f"{starter}/move", {"way": "down"}).status_code == 303
    assert names() == [before[1], before[0], *before[2:]]
    assert landlord.submit(f"{starter}/move", {"way": "around"}).status_code == 400


def test_who_only_reads_finds_no_form(sign_in_as: SignInAs, starter: str) -> None:
    auditor = sign_in_as(AUDITOR)
    for path in (URL, starter, f"{starter}/versions", f"{starter}/versions/1"):
        forms = auditor.page(path).all("form", method="post")
        assert not [each for each in forms if URL in (each.get("action") or "")]
    assert auditor.get(f"{starter}/edit").status_code == 403
