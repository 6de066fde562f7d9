"""Operations: what the API can be asked for, each declared once and described by itself.

`@operation` declares method, path, scope, models and answers. Dispatch lets in, finds what the path
names, reads query and body, and hands the view a `Call`. The same declaration writes the OpenAPI
document (openapi.py).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlencode

from flask import Blueprint, Response, request, url_for
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from blueprints.api import limits
from blueprints.api.fields import LARGEST_ID, ListQuery, Nothing
from blueprints.api.idempotency import answer_once, has_key
from blueprints.api.problems import InvalidAccess, Refused
from blueprints.security import authorised_by_credential
from extensions import csrf
from models import ApiScope, Customer, Group
from services.actors import GRANTS, Actor, get_group, get_numbered_customer
from services.api_credentials import authenticate
from services.paging import Page
from services.transactions import work_without_transaction

View = TypeVar("View", bound=Callable[..., Response])

api_bp = Blueprint("api", __name__)
csrf.exempt(api_bp)
api_bp.after_request(limits.add_headers)

_PATH_PARTS = re.compile(r"<(\w+)>")
_ETAG = re.compile(r'\s*(?:W/)?"(\d{1,9})"\s*')
_JSON = {"application/json", "text/json"}
_CHARSETS = {"utf-8", "utf8", "us-ascii"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers with a status; `links` are OpenAPI links by name."""

    description: str
    model: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    links: Mapping[str, Any] = field(default_factory=dict)
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """`path` is below the base, in Flask's notation without converters."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str
    scope: ApiScope
    answers: Mapping[int, Answer]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    body_is_optional: bool
    updates: bool
    conflicts: bool
    waits: bool
    finds_customer: bool
    example: Any

    @property
    def parts(self) -> list[str]:
        """The names of the path's variable parts."""
        return _PATH_PARTS.findall(self.path)

    @property
    def lists(self) -> bool:
        return self.query is not None and issubclass(self.query, ListQuery)


OPERATIONS: list[Operation] = []


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an operation. `ids` are the path's numbers beyond group and customer."""

    operation: Operation
    actor: Actor
    groupno: int
    custno: int | None
    found_group: Group | None
    found_customer: Customer | None
    ids: Mapping[str, int]
    query: Any = None
    body: Any = None

    @property
    def group(self) -> Group:
        """The group that the path names."""
        if self.found_group is None:
            raise AssertionError(f"{self.operation.path} finds its group by itself")
        return self.found_group

    @property
    def customer(self) -> Customer:
        """The customer that the path names."""
        if self.found_customer is None:
            raise AssertionError(f"{self.operation.path} names none, or finds it by itself")
        return self.found_customer

    @property
    def versions(self) -> Collection[int] | None:
        """The versions that If-Match accepts; None when any will do."""
        header = request.headers.get("If-Match", "").strip()
        if header in {"", "*"}:
            return None
        found = [_ETAG.fullmatch(each) for each in header.split(",")[:20]]
        return {int(match[1]) for match in found if match is not None}

    def url(self, operation: str, **values: Any) -> str:
        """The address of another operation, below the base that this call came by."""
        own = {"groupno": self.groupno}
        if self.custno is not None:
            own["custno"] = self.custno
        return url_for(f".{operation}", **{**own, **values})


def operation(
    method: str,
    path: str,
    *,
    id: str,  # noqa: A002
    tag: str,
    summary: str,
    scope: ApiScope,
    answers: Mapping[int, Answer],
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    body_is_optional: bool = False,
    updates: bool = False,
    conflicts: bool = False,
    waits: bool = False,
    finds_customer: bool = False,
    example: Any = None,
) -> Callable[[View], View]:
    """Declare the view below as an operation; its docstring is the description.

    `updates`: it takes If-Match and may answer 412. `conflicts`: it may answer 409. `waits`: it
    takes Prefer. `finds_customer`: its service finds the customer by the numbers of the path, in
    the one statement that does the work.
    """

    def decorate(view: View) -> View:
        declared = Operation(
            id=id,
            method=method,
            path=path,
            tag=tag,
            summary=summary,
            description=" ".join((view.__doc__ or "").split()),
            scope=scope,
            answers=answers,
            query=query,
            body=body,
            body_is_optional=body_is_optional,
            updates=updates,
            conflicts=conflicts,
            waits=waits,
            finds_customer=finds_customer,
            example=example,
        )
        OPERATIONS.append(declared)

        @wraps(view)
        def endpoint(**values: str) -> Response:
            return _dispatch(declared, view, values)

        api_bp.add_url_rule(
            path,
            endpoint=id,
            view_func=authorised_by_credential(endpoint),
            methods=[method],
            provide_automatic_options=False,
        )
        return view

    return decorate


def _dispatch(
    declared: Operation, view: Callable[[Call], Response], values: Mapping[str, str]
) -> Response:
    if declared.method == "GET":
        work_without_transaction()
    actor = _authenticated()
    if not _has_scope(actor, declared.scope):
        raise InvalidAccess
    numbers = {name: _number(value) for name, value in values.items()}
    groupno, custno = numbers.pop("groupno"), numbers.pop("custno", None)
    group = customer = None
    if custno is None:
        group = get_group(actor, groupno)
    elif has_key() or not declared.finds_customer:  # A replay, too, is for who may ask.
        customer = get_numbered_customer(actor, groupno, custno)
        group = customer.group
    try:
        query, body = _read_query(declared), _read_body(declared)
    except (Refused, RequestEntityTooLarge):
        if custno is not None and customer is None:
            get_numbered_customer(actor, groupno, custno)  # What is out of reach is told first.
        raise
    call = Call(
        operation=declared,
        actor=actor,
        groupno=groupno,
        custno=custno,
        found_group=group,
        found_customer=customer,
        ids=numbers,
        query=query,
        body=body,
    )
    return answer_once(call, view)


def _authenticated() -> Actor:
    given = request.authorization
    actor = None
    if given is not None and given.type == "basic":
        actor = authenticate(given.username or "", given.password or "", request.remote_addr or "")
    if actor is None:
        limits.admit_unknown(request.remote_addr or "")
        raise InvalidAccess(is_unknown=True)
    limits.admit(actor.credential_id or 0)
    return actor


def _has_scope(actor: Actor, scope: ApiScope) -> bool:
    return actor.granted is not None and actor.granted >= GRANTS[scope]


def _number(text: str) -> int:
    """A path's number; what is none belongs to nobody."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LARGEST_ID):
        raise InvalidAccess
    return int(text)


def _read_query(declared: Operation) -> BaseModel | None:
    known = declared.query
    if known is None:
        if request.args:
            name = next(iter(request.args))
            raise Refused("invalid-input", f"This address takes no parameter {name!r}.")
        return None
    for name, values in request.args.lists():
        if len(values) > 1:
            raise Refused("invalid-input", f"The parameter {name!r} is given {len(values)} times.")
    try:
        return known.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise _refusal(error, "parameter") from None


def _read_body(declared: Operation) -> BaseModel | None:
    known = declared.body
    if known is None and declared.method in {"GET", "DELETE"}:
        return None  # A body has no meaning there, and is not read.
    data = request.get_data()
    limit = request.max_content_length
    if request.content_length is None and limit is not None and len(data) >= limit:
        raise RequestEntityTooLarge  # A body in chunks is cut off there.
    if not data and (known is None or declared.body_is_optional):
        return known() if known is not None else None
    _check_media_type()
    if data != b"{}":
        _check_json(data)
    try:
        return (known or Nothing).model_validate_json(data)
    except ValidationError as error:
        if any(each["type"] == "json_invalid" for each in error.errors(include_url=False)):
            raise Refused("malformed-request", "The body is not JSON that can be read.") from None
        raise _refusal(error, "field") from None


def _check_media_type() -> None:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused("unsupported-media-type", "Send the body without Content-Encoding.")
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype not in _JSON or charset not in _CHARSETS:
        raise Refused(
            "unsupported-media-type",
            "Send the body as JSON in UTF-8, with Content-Type: application/json.",
        )


def _check_json(data: bytes) -> None:
    """Refuses what parsers read in different ways: double names, numbers that are none, marks."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _unreadable("It is not UTF-8.") from None
    if text.startswith("\ufeff"):
        raise _unreadable("It starts with a byte order mark.")
    try:
        json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except (ValueError, RecursionError):
        raise _unreadable() from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise _unreadable(f"The field {twice[:100]!r} is there more than once.")
    return found


def _finite(digits: str) -> float:
    found = float(digits)
    if math.isinf(found):
        raise _unreadable("A number in it is too large.")
    return found


def _no_number(name: str) -> NoReturn:
    raise _unreadable(f"{name} is not a number in JSON.")


def _unreadable(detail: str = "") -> Refused:
    return Refused("malformed-request", f"The body is not JSON that can be read. {detail}".rstrip())


def _refusal(error: ValidationError, noun: str) -> Refused:
    """Each fault by its field, without the value: it may be a secret."""
    found = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in each["loc"])
        message = each["msg"].removeprefix("Value error, ").rstrip(".")
        if message.startswith("Value should have"):  # What it calls items are letters of a text.
            message = re.sub(r"items? after validation", "characters", message)
        if each["type"] == "extra_forbidden":
            message = f"This {noun} is not known here"
        if each["type"] == "missing":
            message = f"This {noun} is missing"
        found.append({"field": place, "detail": f"{message}."})
    count = "One value" if len(found) == 1 else f"{len(found)} values"
    return Refused("invalid-input", f"{count} cannot be accepted.", errors=found)


# --- Answers ---------------------------------------------------------------------------------


def answer(
    model: BaseModel, status: int = 200, *, version: int | None = None, location: str = ""
) -> Response:
    """A resource; `version` becomes its ETag."""
    response = Response(model.model_dump_json(), status, mimetype="application/json")
    if version is not None:
        response.headers["ETag"] = f'"{version}"'
    if location:
        response.headers["Location"] = location
    return response


def no_content() -> Response:
    """204 with the media type that the first clients' documentation has."""
    return Response(status=204, mimetype="text/plain")


def answer_page(
    call: Call, listing: type[BaseModel], page: Page[Any], items: Sequence[BaseModel]
) -> Response:
    """A page of a list with links to its neighbours (RFC 8288)."""
    response = Response(
        listing.model_construct(items=list(items), next=page.next).model_dump_json(),
        mimetype="application/json",
    )
    links = [
        f'<{request.path}?{urlencode({**request.args.to_dict(), "cursor": cursor})}>; rel="{rel}"'
        for rel, cursor in (("next", page.next), ("prev", page.previous))
        if cursor is not None
    ]
    if links:
        response.headers["Link"] = ", ".join(links)
    return response
