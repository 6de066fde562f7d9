"""What an empty installation says of what to do first, and to whom."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask

from models import Role, TemplateKind
from services.actors import Actor
from services.preparations import Preparations, find_preparations
from tests.support.factories import make_bundle, make_group, make_template, make_user
from tests.support.pages import CheckingClient, sign_in
from tests.support.requests import make_service_template

pytestmark = pytest.mark.empty_database


@pytest.fixture
def people(app: Flask) -> dict[str, str]:
    """A landlord administrator and an operator, with nothing else there."""
    with app.app_context():
        return {
            role: make_user(role=role, login=f"{role}@foyer.example", all_groups=True).login
            for role in (Role.LANDLORD, Role.OPERATOR)
        }


def test_each_thing_that_is_made_is_ticked_off(app_context: Flask) -> None:
    landlord = Actor.from_user(make_user(role=Role.LANDLORD, all_groups=True))
    assert find_preparations(landlord) == Preparations(False, False, False, False)
    make_group()
    assert find_preparations(landlord) == Preparations(True, False, False, False)
    bundle = make_bundle()
    assert find_preparations(landlord) == Preparations(True, True, False, False)
    make_template()
    assert find_preparations(landlord) == Preparations(True, True, False, False)
    make_template(kind=TemplateKind.WELCOME, slug="welcome")
    assert find_preparations(landlord) == Preparations(True, True, True, False)
    version = make_service_template()
    found = find_preparations(landlord)
    assert found is not None
    assert found.is_complete
    bundle.archived_at = version.template.archived_at = version.created_at
    version.template.published_version_id = None
    assert find_preparations(landlord) == Preparations(True, False, True, False)


def test_who_cannot_make_them_is_told_of_none(app_context: Flask) -> None:
    for role in (Role.OPERATOR, Role.AUDITOR):
        user = make_user(role=role, all_groups=True)
        assert find_preparations(Actor.from_user(user)) is None


@pytest.mark.parametrize("path", ["/customers", "/customers/new"])
def test_a_landlord_administrator_is_led_to_each_of_them(
    app: Flask, people: dict[str, str], path: str
) -> None:
    page = sign_in(app, people[Role.LANDLORD]).page(path)
    section = page.one("section", id="prepare")
    assert "0 of 4 done" in page.text(section)
    client = sign_in(app, people[Role.LANDLORD])
    for link in section.iter("a"):
        client.page(link.get("href"))
    assert len(list(section.iter("a"))) == 4


def test_an_operator_is_told_who_makes_them(app: Flask, people: dict[str, str]) -> None:
    client = sign_in(app, people[Role.OPERATOR])
    text = client.page("/customers/new").text()
    assert "Landlord administrators publish them." in text
    assert "There is no customer in your groups yet." in client.page("/customers").text()


def test_with_all_of_them_there_the_form_is(
    app: Flask, people: dict[str, str], sign_in_as: Callable[[str], CheckingClient]
) -> None:
    with app.app_context():
        make_bundle()
        make_template(kind=TemplateKind.WELCOME, slug="welcome")
        make_service_template()
    client = sign_in_as(people[Role.LANDLORD])
    assert client.page("/customers/new").all("button", type="submit")
    assert not client.page("/customers").all("section", id="prepare")


def test_the_form_of_a_service_template_says_what_is_missing_and_where_it_is_made(
    app: Flask, people: dict[str, str]
) -> None:
    page = sign_in(app, people[Role.LANDLORD]).page("/service-templates/new")
    main = page.one("main")
    targets = {link.get("href") for link in main.iter("a")}
    assert {"/groups/new", "/bundles/new", "/email-templates"} <= targets
    assert re.search(r"There is no group yet", page.text(main))
