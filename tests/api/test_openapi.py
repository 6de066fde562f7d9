"""The OpenAPI document and the pages that are written from it."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from blueprints.api import docs_pages, openapi
from blueprints.api.example_values import example_of
from blueprints.api.operations import OPERATIONS, Operation
from blueprints.api.problems import PROBLEMS
from tests.support.api import Caller
from tests.support.pages import CheckingClient

DOCUMENT = openapi.document()
SCHEMAS = DOCUMENT["components"]["schemas"]


@pytest.fixture
def engine_name() -> str:
    """The database has no part in it."""
    return "sqlite"


def operations() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", each)
        for path, methods in DOCUMENT["paths"].items()
        for method, each in methods.items()
    ]


def followed(found: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in found:
        return found
    target: Any = DOCUMENT
    for part in found["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return target


def references(found: Any) -> set[str]:
    if isinstance(found, dict):
        own = {found["$ref"]} if isinstance(found.get("$ref"), str) else set()
        return own.union(*map(references, found.values()))
    if isinstance(found, list):
        return set().union(*map(references, found))
    return set()


# --- The document ------------------------------------------------------------------------------


def test_it_is_what_the_specification_asks_for() -> None:
    from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

    OPENAPI_31_VALIDATOR.validate(DOCUMENT)


def test_every_schema_is_one() -> None:
    for name, schema in SCHEMAS.items():
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        )
        assert re.fullmatch(r"[A-Za-z0-9_]+", name), name


def test_whatever_is_referred_to_is_there_and_whatever_is_there_is_referred_to() -> None:
    found = references(DOCUMENT)
    for each in found:
        assert followed({"$ref": each})
    for kind in ("schemas", "responses", "headers"):
        prefix = f"#/components/{kind}/"
        named = {each.removeprefix(prefix) for each in found if each.startswith(prefix)}
        assert named == set(DOCUMENT["components"][kind]), kind


def test_it_has_every_operation_once() -> None:
    ids = [each["operationId"] for _, each in operations()]
    assert sorted(ids) == sorted(each.id for each in OPERATIONS)
    assert len(ids) == len(set(ids))


def test_the_customer_section_comes_first_in_its_order() -> None:
    assert DOCUMENT["tags"][0]["name"] == "Customer"
    assert all(each.get("description") for each in DOCUMENT["tags"])
    ordered = openapi.in_order(OPERATIONS)
    known = [each.summary for each in ordered if each.tag == "Customer"]
    wanted = [each for each in openapi._FIRST if each in known]
    assert known[: len(wanted)] == wanted


def test_links_lead_somewhere() -> None:
    known = {each["operationId"]: each for _, each in operations()}
    count = 0
    for name, each in operations():
        for response in each["responses"].values():
            for link in followed(response).get("links", {}).values():
                count += 1
                target = known[link["operationId"]]
                taken = {each["name"] for each in target["parameters"]}
                assert set(link.get("parameters", {})) <= taken, name
    assert count


_LINKS_NEED_A_WORKER = {"addCustomer", "replayWebhookMessage"}
"""Their objects are there once a job has run; tests of their resources follow them."""


def _links() -> list[tuple[Operation, int, str]]:
    return [
        (each, status, name)
        for each in OPERATIONS
        for status, answered in each.answers.items()
        for name in answered.links
        if each.id not in _LINKS_NEED_A_WORKER
    ]


def resolved(expression: str, body: Any, path: dict[str, Any]) -> str:
    """The value of a runtime expression of OpenAPI."""
    if expression.startswith("$request.path."):
        return str(path[expression.removeprefix("$request.path.")])
    found = body
    for part in expression.removeprefix("$response.body#/").split("/"):
        found = found[int(part) if isinstance(found, list) else part]
    return str(found)


@pytest.mark.parametrize(
    ("declared", "status", "name"),
    _links(),
    ids=[f"{each.id} {status} {name}" for each, status, name in _links()],
)
def test_a_link_that_is_followed_leads_to_what_is_there(
    app: Flask, declared: Operation, status: int, name: str
) -> None:
    caller = Caller(app)
    path: dict[str, Any] = {"groupno": 1, "custno": 1001}
    if "webhook_id" in declared.parts:
        made = caller.post("/group/1/webhooks", json=_declared("createWebhook").example)
        path["webhook_id"] = made.get_json()["id"]

    first = call(caller, declared, path)
    assert first.status_code == status, first.text
    link = declared.answers[status].links[name]
    body = first.get_json()
    given = {
        part: resolved(value, body, path) for part, value in link.get("parameters", {}).items()
    }
    second = call(caller, _declared(link["operationId"]), {**path, **given})

    assert second.status_code in {*range(200, 300), 409, 422}, second.text


def _declared(operation_id: str) -> Operation:
    return next(each for each in OPERATIONS if each.id == operation_id)


def call(caller: Caller, declared: Operation, path: dict[str, Any]) -> TestResponse:
    address = openapi.shown_path(declared).format(**path)
    options = {"json": declared.example} if declared.body is not None else {}
    return caller.call(declared.method, address, **options)


def test_what_can_happen_is_documented_and_nothing_else() -> None:
    for name, each in operations():
        codes = set(each["responses"])
        assert {"403", "422", "429", "503"} <= codes, name
        is_post = name.startswith("POST ")
        assert (("413" in codes) and ("415" in codes) and ("400" in codes)) == (
            not name.startswith(("GET ", "DELETE "))
        ), name
        parameters = {part["name"] for part in each["parameters"]}
        assert ("Idempotency-Key" in parameters) == is_post, name
        assert ("If-Match" in parameters) == ("412" in codes), name
        assert any(code.startswith("2") for code in codes), name


def test_every_operation_says_what_it_does_and_needs() -> None:
    for name, each in operations():
        assert each["summary"], name
        assert re.search(r"Needs the scope `(read|write|send)`\.$", each["description"]), name
        assert len(each["description"]) > 40, name
        for part in each["parameters"]:
            if part["in"] == "path":
                assert part["description"], name
                assert "example" in part, name


def test_examples_fit_their_schemas() -> None:
    whole = {"components": DOCUMENT["components"]}
    for name, each in operations():
        media = each.get("requestBody", {}).get("content", {}).get("application/json")
        if media is None:
            continue
        assert "example" in media, name
        problems = jsonschema_rs.Draft202012Validator({**media["schema"], **whole})
        assert problems.is_valid(media["example"]), name
    for response in DOCUMENT["components"]["responses"].values():
        for media in response["content"].values():
            validator = jsonschema_rs.Draft202012Validator({**media["schema"], **whole})
            assert validator.is_valid(media["example"])


def test_examples_that_are_put_together_fit_too() -> None:
    whole = {"components": DOCUMENT["components"]}
    for name, schema in SCHEMAS.items():
        if name.endswith("Given") or "pattern" in json.dumps(schema):
            continue
        made = example_of(schema, SCHEMAS)
        validator = jsonschema_rs.Draft202012Validator({**schema, **whole})
        if "enum" not in schema and schema.get("properties"):
            assert set(made) == set(schema["properties"]), name
        faults = [str(each.message) for each in validator.iter_errors(made)]
        assert not faults, (name, faults)


def test_it_names_nothing_of_the_inside() -> None:
    text = json.dumps(DOCUMENT)
    assert "blueprints" not in text
    assert "Shown" not in text
    assert "SecretStr" not in text


# --- How it is served --------------------------------------------------------------------------


def test_everybody_gets_it_and_may_keep_it(app: Flask) -> None:
    nobody = Caller(app, None)
    response = nobody.get("/openapi.json")
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.get_json() == DOCUMENT
    assert response.headers["Cache-Control"] == "public, max-age=300"
    tag = response.headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    again = nobody.get("/openapi.json", headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == tag
    assert nobody.get("/openapi.json", headers={"If-None-Match": '"other"'}).status_code == 200


def test_servers_are_where_the_api_is(app: Flask, api: Caller) -> None:
    for server in DOCUMENT["servers"]:
        assert api.get(f"{server['url']}/group/1/customer/1001").status_code == 200


# --- Pages -------------------------------------------------------------------------------------


def test_the_page_shows_every_operation_and_schema(client: CheckingClient) -> None:
    page = client.page("/api/v1/docs")
    ids = {element.get("id") for element in page.root.iter() if element.get("id")}
    for each in OPERATIONS:
        assert each.id in ids
        assert openapi.shown_path(each) in page.source
        assert each.summary in page.text()
    assert {f"schema-{name}" for name in SCHEMAS} <= ids
    for element in page.all("a"):
        target = element.get("href", "")
        if target.startswith("#"):
            assert target[1:] in ids, target


def test_its_headings_leave_out_no_level(client: CheckingClient) -> None:
    page = client.page("/api/v1/docs")
    headings = [e.tag for e in page.root.iter() if e.tag in {"h1", "h2", "h3", "h4"}]
    for before, after in itertools.pairwise(headings):
        assert int(after[1]) - int(before[1]) <= 1, "a level of headings is left out"


def test_curl_is_given_for_each(client: CheckingClient) -> None:
    page = client.page("/api/v1/docs")
    for each in OPERATIONS:
        article = page.one("article", id=each.id)
        code = [page.text(element) for element in article.iter("pre")]
        assert code[0].startswith('curl -u "$FOYER_NAME:$FOYER_SECRET"'), each.id
        assert "<" not in code[0]
        assert ("-H 'Content-Type: application/json'" in code[0]) == (each.body is not None)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_has_its_page(client: CheckingClient, name: str) -> None:
    page = client.page(f"/api/v1/problems/{name}")
    kind = PROBLEMS[name]
    assert page.text(page.one("h1")) == kind.title
    assert str(kind.status) in page.text()


def test_every_problem_says_what_to_do() -> None:
    assert set(docs_pages.ADVICE) == set(PROBLEMS)


def test_a_problem_that_is_none_is_not_there(app: Flask) -> None:
    response = Caller(app, None).get("/problems/none")
    assert (response.status_code, response.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize("settings_changes", [{"API_RATE_LIMIT": "25/minute"}], ids=[""])
def test_the_page_tells_the_limit(client: CheckingClient) -> None:
    assert "25 requests in 60 seconds" in client.page("/api/v1/docs").text()


def test_code_is_marked_and_all_else_escaped() -> None:
    assert docs_pages.marked("a `b<c>` <d>") == "a <code>b&lt;c&gt;</code> &lt;d&gt;"
