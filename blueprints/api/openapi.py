"""The OpenAPI 3.1 document of the API, written from what the operations declare."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from blueprints.api.fields import LARGEST_ID, Listing, Shown
from blueprints.api.idempotency import HEADER as IDEMPOTENCY_KEY
from blueprints.api.operations import OPERATIONS, Answer, Operation
from blueprints.api.problems import INVALID_ACCESS, PROBLEMS
from models import ApiScope

VERSION = "1.0.0"
BASES: Final = ("/api/v1", "/tiab/api/v1")

_REF = "#/components/schemas/"
_PROBLEM_TYPE = "application/problem+json"

TAGS: Final = {
    "Customer": "Companies served, in the groups that the credential is for.",
    "Users": "The people of a customer, who sign in and are mailed.",
    "Bundles": "Service packages that a customer may give to its users.",
    "Mailings": "E-mail templates sent to users of a customer, and what became of each mail.",
    "Suppressions": "Addresses that get no mail, because it comes back or by request.",
    "Subscription requests": "Tenants that were asked for, until they are customers.",
    "Service templates": "What new customers are made of.",
    "Webhooks": "Addresses that are told what happens in a group.",
}
"""What is said of a tag, and the order of those that come first."""

_FIRST = (
    "Add Customer",
    "Get Customer Detail",
    "List Customers",
    "Update Customer",
    "Set Customer Direct Debit",
    "Send Welcome Email",
)
"""The summaries of the Customer section, in its documented order."""

SCOPES: Final = {
    ApiScope.READ: "looks",
    ApiScope.WRITE: "changes",
    ApiScope.SEND: "mails",
}

_DESCRIPTION = """\
Sign in with HTTP Basic: the name of an API credential and its secret. A credential is for groups \
and has scopes: `read`, `write`, `send`. For everything that it may not know or do the answer is \
403 `Invalid access`, whether it exists or not. All other refusals are `application/problem+json` \
(RFC 9457); their `type` is stable and has a page. Times are in UTC. Unknown fields are refused by \
name. Addresses in `Location` and `Link` are relative to the one that was asked. `Accept` is not \
looked at. What is answered may get further fields."""

_PATH_PARTS = {
    "groupno": ("Number of a group. A credential is for certain groups.", 1, 2**31 - 1),
    "custno": ("Number of a customer in the group.", 1001, 2**31 - 1),
}

_HEADERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "ETag": ("The version, for If-Match.", {"type": "string"}, '"3"'),
    "Location": (
        "Where to look on, relative to the address that was asked.",
        {"type": "string", "format": "uri-reference"},
        "",
    ),
    "Link": (
        "The pages after (`next`) and before (`prev`), relative to the address that was asked "
        "(RFC 8288).",
        {"type": "string"},
        '</api/v1/group/1/customer?cursor=eyJ&limit=25>; rel="next"',
    ),
    "Retry-After": ("Seconds until it is worth another try.", {"type": "integer"}, "30"),
    "X-Request-ID": (
        "The id of the request: the one that was sent, where it is a plain token of 8 to 64 "
        "characters, or a new one.",
        {"type": "string"},
        "6c0f7d5f2a9b4c1e",
    ),
    "RateLimit-Policy": (
        "The limit: `q` requests in `w` seconds (draft-ietf-httpapi-ratelimit-headers).",
        {"type": "string"},
        '"default";q=600;w=60',
    ),
    "RateLimit": (
        "`r` requests are left, and the window ends in `t` seconds.",
        {"type": "string"},
        '"default";r=599;t=42',
    ),
    "Preference-Applied": (
        "The seconds that the call was ready to wait, where Prefer asked for some.",
        {"type": "string"},
        "wait=5",
    ),
    "Idempotent-Replayed": (
        "`true` when this is the answer of an earlier request with the same Idempotency-Key.",
        {"type": "string"},
        "true",
    ),
    "WWW-Authenticate": (
        "Only where the credentials are missing or not valid.",
        {"type": "string"},
        'Basic realm="Foyer API", charset="UTF-8"',
    ),
}

_COMMON = {
    400: ("Malformed", "The body is not JSON that can be read.", "malformed-request"),
    409: ("Conflict", "The state of things does not allow this.", "conflict"),
    412: ("ChangedMeanwhile", "It was changed since it was read.", "changed-meanwhile"),
    413: ("TooLarge", "The request is larger than 1 MB.", "too-large"),
    415: ("UnsupportedMediaType", "The body is not JSON in UTF-8.", "unsupported-media-type"),
    422: ("InvalidInput", "Values cannot be accepted; `errors` names them.", "invalid-input"),
    429: ("TooManyRequests", "The credential's rate limit is used up.", "too-many-requests"),
    503: ("Unavailable", "The service cannot answer at the moment.", "unavailable"),
}


class FieldFault(Shown):
    """What is wrong with one value."""

    field: str = Field(description="Its name; parts of objects after a dot.")
    detail: str


class ProblemShown(BaseModel):
    """A refusal (RFC 9457)."""

    type: str = Field(description="Stable; also the address of a page about it.")
    title: str
    status: int
    request_id: str
    detail: str = Field(default="", description="What to do about it.")
    errors: list[FieldFault] = Field(default=[], description="The values that are refused.")


class _Schemas(GenerateJsonSchema):
    """Without titles that repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@cache
def document() -> dict[str, Any]:
    """The whole document, as it is served. Nobody may change it."""
    schemas, components = _schemas(OPERATIONS)
    paths: dict[str, dict[str, Any]] = {}
    for each in in_order(OPERATIONS):
        paths.setdefault(shown_path(each), {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Foyer REST API",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {"url": BASES[0]},
            {"url": BASES[1], "description": "The same, for clients that know it by this address."},
        ],
        "security": [{"basic": []}],
        "tags": [
            {"name": tag, **({"description": TAGS[tag]} if tag in TAGS else {})}
            for tag in dict.fromkeys(each.tag for each in in_order(OPERATIONS))
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "Name and secret of an API credential.",
                }
            },
            "headers": {name: _header(name) for name in _HEADERS},
            "responses": {
                "InvalidAccess": _invalid_access(),
                **{name: _refusal(status) for status, (name, _, _) in _COMMON.items()},
            },
            "schemas": components,
        },
    }


@cache
def text() -> tuple[bytes, str]:
    """The document as it goes over the wire, and its ETag without quotes."""
    data = json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode()
    return data, hashlib.blake2b(data, digest_size=16).hexdigest()


def in_order(operations: Iterable[Operation]) -> list[Operation]:
    """By tag, the known ones first, and within a tag as documented or as declared."""
    tags = list(dict.fromkeys([*TAGS, *(each.tag for each in operations)]))
    return sorted(
        operations,
        key=lambda each: (
            tags.index(each.tag),
            _FIRST.index(each.summary) if each.summary in _FIRST else len(_FIRST),
        ),
    )


def shown_path(declared: Operation) -> str:
    """The path in OpenAPI's notation."""
    return re.sub(r"<(\w+)>", r"{\1}", declared.path)


def statuses(declared: Operation) -> list[int]:
    """All that the operation answers, its own first."""
    common = {403, 422, 429, 503}
    if declared.method in {"POST", "PUT", "PATCH"}:
        common |= {400, 413, 415}
    if declared.conflicts or declared.method == "POST":
        common.add(409)
    if declared.updates:
        common.add(412)
    return [*sorted(declared.answers), *sorted(common - set(declared.answers))]


# --- Operations --------------------------------------------------------------------------------

_Named = Mapping[type[BaseModel], dict[str, Any]]


def _operation(declared: Operation, schemas: _Named) -> dict[str, Any]:
    scope = f"Needs the scope `{declared.scope.value}`."
    found: dict[str, Any] = {
        "operationId": declared.id,
        "tags": [declared.tag],
        "summary": declared.summary,
        "description": f"{declared.description} {scope}".strip(),
        "parameters": [*_path_parameters(declared), *_query(declared), *_headers(declared)],
    }
    if declared.body is not None:
        media: dict[str, Any] = {"schema": schemas[declared.body]}
        if declared.example is not None:
            media["example"] = declared.example
        found["requestBody"] = {
            "required": not declared.body_is_optional,
            "content": {"application/json": media},
        }
    found["responses"] = {
        str(status): _answer(declared, status, schemas) for status in statuses(declared)
    }
    return found


def _path_parameters(declared: Operation) -> Iterator[dict[str, Any]]:
    for name in declared.parts:
        noun = name.removesuffix("_id").replace("_", " ")
        words, example, highest = _PATH_PARTS.get(name, (f"Id of the {noun}.", 1, LARGEST_ID))
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": words,
            "schema": {"type": "integer", "format": "int64", "minimum": 1, "maximum": highest},
            "example": example,
        }


def _query(declared: Operation) -> Iterator[dict[str, Any]]:
    if declared.query is None:
        return
    whole = declared.query.model_json_schema(ref_template=_REF + "{model}")
    wanted = whole.get("required", [])
    for name, schema in whole["properties"].items():
        described = _resolved(schema, whole.get("$defs", {}))
        described.pop("title", None)
        words = described.pop("description", "")
        yield {
            "name": name,
            "in": "query",
            **({"required": True} if name in wanted else {}),
            **({"description": words} if words else {}),
            "schema": described,
        }


def _resolved(schema: Any, known: Mapping[str, Any]) -> Any:
    """A schema with what it refers to in its place: parameters stand for themselves."""
    if isinstance(schema, list):
        return [_resolved(each, known) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = dict(known[schema["$ref"].removeprefix(_REF)])
        target.pop("title", None)
        return _resolved({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, known)
    return {name: _resolved(each, known) for name, each in schema.items()}


def _headers(declared: Operation) -> Iterator[dict[str, Any]]:
    if declared.method == "POST":
        yield {
            "name": IDEMPOTENCY_KEY,
            "in": "header",
            "description": "Repeat a request with the same key, and it is carried out once and "
            "answered the same for 24 hours.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "maxLength": 255},
            "example": "0b6f3c1e-52b2-4a5e-9d0c-7f1d2c3b4a59",
        }
    if declared.waits:
        yield {
            "name": "Prefer",
            "in": "header",
            "description": "`wait=` and seconds, at most 10, to wait for the end (RFC 7240).",
            "schema": {"type": "string"},
        }
    if declared.updates:
        yield {
            "name": "If-Match",
            "in": "header",
            "description": "The ETag that was read: the change is refused with 412 when it is no "
            "longer the one. Without it the change is made to whatever there is.",
            "schema": {"type": "string"},
            "example": '"3"',
        }


def _answer(declared: Operation, status: int, schemas: _Named) -> dict[str, Any]:
    own = declared.answers.get(status)
    if own is None:
        name = "InvalidAccess" if status == 403 else _COMMON[status][0]
        return {"$ref": f"#/components/responses/{name}"}
    names = [*own.headers]
    if declared.lists and status == 200:
        names.append("Link")
    if declared.method == "POST":
        names.append("Idempotent-Replayed")
    names += ["X-Request-ID", "RateLimit-Policy", "RateLimit"]
    found: dict[str, Any] = {
        "description": own.description,
        "headers": {name: _header_ref(name) for name in dict.fromkeys(names)},
    }
    if own.model is not None:
        found["content"] = {own.media_type: {"schema": schemas[own.model]}}
    if own.links:
        found["links"] = dict(own.links)
    return found


def _header(name: str) -> dict[str, Any]:
    words, schema, example = _HEADERS[name]
    return {
        "description": words,
        "schema": schema,
        **({"example": example} if example and schema["type"] == "string" else {}),
    }


def _header_ref(name: str) -> dict[str, Any]:
    if name in _HEADERS:
        return {"$ref": f"#/components/headers/{name}"}
    return {"schema": {"type": "string"}}


def _invalid_access() -> dict[str, Any]:
    return {
        "description": "The caller may not know or do this, or nobody knows who he is.",
        "headers": {name: _header_ref(name) for name in ("WWW-Authenticate", "X-Request-ID")},
        "content": {
            "text/plain": {
                "schema": {"type": "string", "const": INVALID_ACCESS},
                "example": INVALID_ACCESS,
            }
        },
    }


def _refusal(status: int) -> dict[str, Any]:
    _, words, problem = _COMMON[status]
    names = ["X-Request-ID"]
    if status in {409, 429, 503}:
        names.insert(0, "Retry-After")
    return {
        "description": words,
        "headers": {name: _header_ref(name) for name in names},
        "content": {
            _PROBLEM_TYPE: {
                "schema": {"$ref": f"{_REF}Problem"},
                "example": problem_example(problem),
            }
        },
    }


def problem_example(name: str) -> dict[str, Any]:
    """A problem as it is answered."""
    kind = PROBLEMS[name]
    found: dict[str, Any] = {
        "type": f"/api/v1/problems/{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "request_id": "6c0f7d5f2a9b4c1e",
    }
    if name == "invalid-input":
        found["detail"] = "One value cannot be accepted."
        found["errors"] = [{"field": "colour", "detail": "This field is not known here."}]
    return found


# --- Schemas -----------------------------------------------------------------------------------


def _schemas(operations: Iterable[Operation]) -> tuple[_Named, dict[str, Any]]:
    """A reference for each model, and the schemas by name."""
    wanted: list[tuple[type[BaseModel], Any]] = [(ProblemShown, "validation")]
    for each in operations:
        if each.body is not None:
            wanted.append((each.body, "validation"))
        wanted += [
            (answer.model, "serialization")
            for answer in each.answers.values()
            if answer.model is not None
        ]
    asked = list(dict.fromkeys(wanted))
    references, whole = models_json_schema(
        asked, ref_template=_REF + "{model}", schema_generator=_Schemas
    )
    names = _short_names(whole["$defs"])
    components = {
        names[name]: _renamed(schema, names) for name, schema in sorted(whole["$defs"].items())
    }
    for name, schema in components.items():
        schema.pop("title", None)
        if schema.get("description", "").startswith("A page of a list."):
            schema["description"] = "A page of a list. " + (Listing.__doc__ or "").split(". ", 1)[1]
        components[name] = schema
    found = {model: _renamed(references[model, mode], names) for model, mode in asked}
    return found, dict(sorted(components.items()))


def _short_names(definitions: Iterable[str]) -> dict[str, str]:
    """`CustomerShown` is Customer, a listing of it CustomerList; only where no two meet."""
    wished = {}
    for name in definitions:
        last = name.split("__")[-1]
        listed = re.fullmatch(r"Listing_(\w+?)_", last)
        word = re.sub(r"(Shown|-Output|-Input)$", "", last)
        if listed:
            word = re.sub(r"(Shown|Listed)$", "", listed[1])
        wished[name] = f"{word}List" if listed else word
    taken = list(wished.values())
    return {
        name: short if taken.count(short) == 1 else re.sub(r"\W+", "_", name)
        for name, short in wished.items()
    }


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, list):
        return [_renamed(each, names) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _renamed(each, names) for name, each in schema.items()}
    if isinstance(found.get("$ref"), str):
        found["$ref"] = _REF + names[found["$ref"].removeprefix(_REF)]
    if isinstance(found.get("description"), str):
        found["description"] = " ".join(found["description"].split())
    return found


def reason(status: int) -> str:
    """The words for a status."""
    return HTTPStatus(status).phrase


def own_answer(declared: Operation) -> tuple[int, Answer]:
    """What an operation answers when all is well."""
    status = min(declared.answers)
    return status, declared.answers[status]
