"""The API's documentation for people and for machines; anybody may read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from flask import Blueprint, Response, abort, make_response, render_template, request
from markupsafe import Markup, escape

from blueprints.api import openapi
from blueprints.api.example_values import example_of
from blueprints.api.operations import OPERATIONS, Operation
from blueprints.api.problems import PROBLEMS, Problem
from blueprints.security import public
from config import Settings
from extensions import get_settings

docs_bp = Blueprint("api_docs", __name__, url_prefix=openapi.BASES[0])

_DEEPEST = 3
_ANY_NUMBER = 2**31 - 1

ADVICE: Final[dict[str, tuple[str, str]]] = {
    "malformed-request": (
        "The body is not JSON that every parser reads alike: it is not UTF-8, starts with a byte "
        "order mark, names a field twice, holds NaN or Infinity, or is not JSON at all.",
        "Mend the body. Repeating the request as it is will not help.",
    ),
    "no-such-address": (
        "The API has nothing at this address.",
        "Compare it with the addresses in the documentation. Numbers stand where braces are.",
    ),
    "method-not-allowed": (
        "The address exists, and does not know the method.",
        "The answer's Allow header names those that it knows.",
    ),
    "conflict": (
        "The request is right, and what it is about is not in a state for it; the detail says "
        "why. Nothing was done.",
        "Look at the present state and decide again.",
    ),
    "request-in-flight": (
        "An earlier request with the same Idempotency-Key has not ended.",
        "Repeat the request after the seconds in Retry-After. It will then get the answer of the "
        "first one.",
    ),
    "answer-lost": (
        "A request with this Idempotency-Key was carried out, and the server was interrupted "
        "before its answer was kept. It is not carried out a second time.",
        "Read the object that it was about to see what became of it.",
    ),
    "changed-meanwhile": (
        "If-Match named a version, and the object has another one by now. Nothing was changed.",
        "Read the object again, decide whether the change is still wanted, and send it with the "
        "new ETag.",
    ),
    "too-large": (
        "A request may have up to 1 MB.",
        "Split it into several.",
    ),
    "unsupported-media-type": (
        "Bodies are JSON in UTF-8, and say so.",
        "Send Content-Type: application/json.",
    ),
    "invalid-input": (
        "One or more values break a rule, or are not known here. Nothing was done.",
        "The errors name each field and what is wrong with it. Mend all of them and send the "
        "request again; its Idempotency-Key is still free.",
    ),
    "key-reused": (
        "The Idempotency-Key came with another path or body within the last 24 hours.",
        "Use a new random key for each request, and the same one only to repeat it.",
    ),
    "too-many-requests": (
        "The rate limit is used up: that of the credential, or that of an address whose "
        "credentials are not valid.",
        "Wait for the seconds in Retry-After. RateLimit tells with every answer how many requests "
        "are left.",
    ),
    "internal-error": (
        "Something went wrong on our side. It was logged under the request's id.",
        "Repeat the request, with the same Idempotency-Key if it had one. When it goes on, tell "
        "the support the request's id.",
    ),
    "unavailable": (
        "The service cannot answer at the moment.",
        "Repeat the request in some seconds, with the same Idempotency-Key if it had one.",
    ),
}


@dataclass(frozen=True, slots=True)
class FieldLine:
    """A parameter or a part of an object as the page shows it."""

    name: str
    kind: str
    is_required: bool
    words: Markup


@dataclass(frozen=True, slots=True)
class AnswerLine:
    status: int
    reason: str
    words: Markup
    schema: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OperationShown:
    """An operation as the page shows it."""

    id: str
    method: str
    path: str
    summary: str
    scope: str
    words: Markup
    parameters: list[FieldLine]
    body: list[FieldLine]
    answers: list[AnswerLine]
    curl: str
    example: str


@dataclass(frozen=True, slots=True)
class SchemaShown:
    name: str
    words: Markup
    fields: list[FieldLine]
    values: list[str]
    is_sent: bool


@docs_bp.get("/openapi.json")
@public
def document() -> Response:
    """The OpenAPI document; it changes with the release alone."""
    data, tag = openapi.text()
    response = Response(data, mimetype="application/json")
    response.set_etag(tag)
    response.headers["Cache-Control"] = "public, max-age=300"
    response.headers["Access-Control-Allow-Origin"] = "*"  # Tools in browsers read it, too.
    return make_response(response.make_conditional(request))


@docs_bp.get("/docs")
@public
def index() -> str:
    sections, schemas = _page(get_settings().public_url)
    return render_template(
        "api/docs.html",
        page_title="REST API",
        sections=sections,
        schemas=schemas,
        problems=PROBLEMS.values(),
        limit=_limit_words(get_settings()),
        base=get_settings().public_url + openapi.BASES[0],
    )


@docs_bp.get("/problems/<name>")
@public
def problem(name: str) -> str:
    """What the `type` of a refusal leads to."""
    kind: Problem | None = PROBLEMS.get(name)
    if kind is None:
        abort(404)
    meaning, advice = ADVICE[name]
    return render_template(
        "api/problem.html",
        page_title=kind.title,
        problem=kind,
        reason=openapi.reason(kind.status),
        meaning=meaning,
        advice=advice,
        example=_shown(openapi.problem_example(name)),
    )


def _limit_words(settings: Settings) -> str:
    limit = settings.api_rate_limit
    if limit is None:
        return ""
    return f"{limit.amount:,} requests in {limit.get_expiry():,} seconds"


@cache
def _page(public_url: str) -> tuple[list[tuple[str, str, list[OperationShown]]], list[SchemaShown]]:
    document = openapi.document()
    components = document["components"]["schemas"]
    sections: dict[str, list[OperationShown]] = {}
    for each in openapi.in_order(OPERATIONS):
        sections.setdefault(each.tag, []).append(_operation(each, document, public_url))
    return (
        [(tag, openapi.TAGS.get(tag, ""), found) for tag, found in sections.items()],
        [_schema(name, schema) for name, schema in components.items()],
    )


def _operation(declared: Operation, document: Mapping[str, Any], public_url: str) -> OperationShown:
    path = openapi.shown_path(declared)
    written = document["paths"][path][declared.method.lower()]
    components = document["components"]["schemas"]
    body = _json_of(written.get("requestBody", {}))
    status, _ = openapi.own_answer(declared)
    answered = _json_of(written["responses"][str(status)])
    sent = None
    if body is not None:
        sent = body.get("example", example_of(body["schema"], components))
    shown = example_of(answered["schema"], components) if answered is not None else None
    return OperationShown(
        id=declared.id,
        method=declared.method,
        path=path,
        summary=declared.summary,
        scope=declared.scope.value,
        words=marked(declared.description),
        parameters=[_parameter(each) for each in written["parameters"]],
        body=list(_fields(body["schema"], components)) if body is not None else [],
        answers=[_answer(code, each, document) for code, each in written["responses"].items()],
        curl=_curl(declared, written, public_url, sent),
        example=_shown(shown) if shown is not None else "",
    )


def _parameter(written: Mapping[str, Any]) -> FieldLine:
    where = {"path": "in the path", "query": "in the query", "header": "header"}[written["in"]]
    kind = f"{_kind(written['schema'])}, {where}"
    return FieldLine(
        written["name"],
        kind,
        written.get("required", False),
        marked(_sentences(written.get("description", ""), written["schema"])),
    )


def _answer(code: str, written: Mapping[str, Any], document: Mapping[str, Any]) -> AnswerLine:
    status = int(code)
    if "$ref" in written:
        name = written["$ref"].rsplit("/", 1)[1]
        shared = document["components"]["responses"][name]
        problem = shared["content"].get("application/problem+json", {}).get("example", {})
        return AnswerLine(
            status,
            openapi.reason(status),
            marked(shared["description"]),
            problem=problem.get("type", "").rpartition("/")[2],
        )
    content = next(iter(written.get("content", {}).values()), None)
    schema = _referred(content["schema"]) if content is not None else ""
    return AnswerLine(status, openapi.reason(status), marked(written["description"]), schema=schema)


def _schema(name: str, schema: Mapping[str, Any]) -> SchemaShown:
    return SchemaShown(
        name,
        marked(schema.get("description", "")),
        [
            _field(field, described, schema.get("required", []))
            for field, described in schema.get("properties", {}).items()
        ],
        [str(each) for each in schema.get("enum", [])],
        is_sent="additionalProperties" in schema and not schema["additionalProperties"],
    )


def _fields(
    schema: Mapping[str, Any], components: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[FieldLine]:
    """The parts of an object, those of objects within it after a dot."""
    target = _followed(schema, components)
    for name, described in target.get("properties", {}).items():
        yield _field(
            prefix + name, described, [prefix + each for each in target.get("required", [])]
        )
        within = _followed(described, components)
        if within.get("type") == "array":
            within, mark = _followed(within.get("items", {}), components), "[]."
        else:
            mark = "."
        if "properties" in within and depth < _DEEPEST:
            yield from _fields(within, components, f"{prefix}{name}{mark}", depth + 1)


def _followed(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    if name := _referred(schema):
        found: Mapping[str, Any] = components[name]
        return found
    if "anyOf" in schema:
        return _followed(schema["anyOf"][0], components)
    return schema


def _field(name: str, schema: Mapping[str, Any], required: list[str]) -> FieldLine:
    words = _sentences(schema.get("description", ""), schema)
    return FieldLine(name, _kind(schema), name in required, marked(words))


def _referred(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _kind(schema: Mapping[str, Any]) -> str:
    """The type in words."""
    if name := _referred(schema):
        return name
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            kinds = [_kind(each) for each in schema[choice]]
            return " or ".join(dict.fromkeys(kinds))
    if "allOf" in schema:
        return _kind(schema["allOf"][0])
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("format") == "date-time":
        return "time"
    if "const" in schema:
        return json.dumps(schema["const"])
    return str(kind)


def _sentences(words: str, schema: Mapping[str, Any]) -> str:
    """What is said of a value, and its limits."""
    limits = []
    if "enum" in schema:
        limits.append("One of " + ", ".join(f"`{each}`" for each in schema["enum"]) + ".")
    if "minLength" in schema or "maxLength" in schema:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        span = f"{least} to {most}" if least else f"Up to {most}"
        limits.append(f"{span if most is not None else f'At least {least}'} characters.")
    if "maxItems" in schema:
        limits.append(f"Up to {schema['maxItems']} of them.")
    if schema.get("maximum", _ANY_NUMBER) < _ANY_NUMBER:
        limits.append(f"{schema.get('minimum', 0)} to {schema['maximum']}.")
    if isinstance(schema.get("default"), (str, int)) and schema["default"] != "":
        limits.append(f"By default `{json.dumps(schema['default'])}`.")
    return " ".join([*filter(None, [words]), *limits])


def _curl(declared: Operation, written: Mapping[str, Any], public_url: str, sent: Any) -> str:
    path = declared.path
    for each in written["parameters"]:
        if each["in"] == "path":
            path = path.replace(f"<{each['name']}>", str(each["example"]))
    lines = ['curl -u "$FOYER_NAME:$FOYER_SECRET"']
    if declared.method != "GET":
        lines.append(f"-X {declared.method}")
    if declared.method == "POST":
        lines.append('-H "Idempotency-Key: $(uuidgen)"')
    if declared.updates:
        lines.append("-H 'If-Match: \"3\"'")
    if sent is not None:
        lines.append("-H 'Content-Type: application/json'")
        data = json.dumps(sent, ensure_ascii=False).replace("'", "'\\''")
        lines.append(f"-d '{data}'")
    lines.append(f"'{public_url}{openapi.BASES[0]}{path}'")
    return " \\\n  ".join(lines)


def _json_of(written: Mapping[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = written.get("content", {}).get("application/json")
    return found


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def marked(text: str) -> Markup:
    """`code` between backticks; everything else as it is."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped
