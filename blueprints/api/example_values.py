"""Examples of what the API answers: the demonstration's values, put together by a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_REF = "#/components/schemas/"

_KNOWN: Final[dict[str, Any]] = {
    "groupno": 1,
    "custno": 1001,
    "web_id": "CQ001",
    "name": "KentonElectronics",
    "short_name": "kenton",
    "upn_suffix": "kenton-electronics.com",
    "login": "prpkeAdmin@kenton-electronics.com",
    "email": "admin@kenton-electronics.com",
    "company": "Kenton Electronics NV",
    "full_name": "Petra Kenton",
    "first_name": "Petra",
    "last_name": "Kenton",
    "ani": "+3225550100",
    "phone": "+3225550100",
    "street": "Kentonlaan 1",
    "postal_code": "1000",
    "city": "Brussels",
    "region": "",
    "country": "BE",
    "language": "en",
    "time_zone": "Europe/Brussels",
    "bundle": "Entry3PhoneNextGenBundle",
    "bundles": ["Entry3PhoneNextGenBundle"],
    "url": "https://example.com/hooks/foyer",
    "author": "API credential demo-api",
    "version": 3,
    "next": None,
    "options": {},
}
_BY_FORMAT = {"date-time": "2026-11-21T09:30:00.000Z", "date": "2026-11-21", "uri": "https://…"}
_DEEPEST = 8


def example_of(schema: Mapping[str, Any], known: Mapping[str, Any], name: str = "") -> Any:
    """A value that fits `schema`; `known` are the schemas that it refers to, by name."""
    return _example(schema, known, name, 0)


def _example(schema: Mapping[str, Any], known: Mapping[str, Any], name: str, depth: int) -> Any:
    if depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _example(known[schema["$ref"].removeprefix(_REF)], known, name, depth + 1)
    for one in ("example", "const"):
        if one in schema:
            return schema[one]
    for several in ("examples", "enum"):
        if schema.get(several):
            return schema[several][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return _first_of(schema[choice], known, name, depth)
    return _of_type(schema, known, name, depth)


def _first_of(
    choices: list[Mapping[str, Any]], known: Mapping[str, Any], name: str, depth: int
) -> Any:
    if name in _KNOWN and any(_fits(_KNOWN[name], each) for each in choices):
        return _KNOWN[name]
    return _example(choices[0], known, name, depth + 1)


def _of_type(schema: Mapping[str, Any], known: Mapping[str, Any], name: str, depth: int) -> Any:
    if name in _KNOWN and _fits(_KNOWN[name], schema):
        return _KNOWN[name]
    kind = schema.get("type")
    if kind == "object":
        return {
            key: _example(value, known, key, depth + 1)
            for key, value in schema.get("properties", {}).items()
        }
    if kind == "array":
        return [_example(schema.get("items", {}), known, name.removesuffix("s"), depth + 1)]
    if kind in {"integer", "number"}:
        return schema.get("default") or max(1, schema.get("minimum", 1))
    if kind == "boolean":
        return schema.get("default", False)
    if kind == "string":
        return schema.get("default") or _BY_FORMAT.get(schema.get("format", ""), "…")
    return None


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    kinds = {"string": str, "integer": int, "array": list, "object": dict, "null": type(None)}
    return isinstance(value, kinds.get(schema.get("type", ""), ()))
