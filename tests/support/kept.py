"""What is alike in all applications of a test process, and is made once for all of them.

Every test has an application of its own. To compile its pages, its statements and its rules of
addresses anew each time took half of the time that tests of pages took.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import CodeType
from typing import Any

import sqlalchemy as sa
from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from werkzeug.routing import Rule
from werkzeug.routing.rules import RulePart

from blueprints.routes import LazyRule
from extensions import db

_STATEMENTS = 3000


class Pages(BytecodeCache):
    """Compiled templates, by what they were compiled from."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        assert bucket.code is not None
        self._codes[bucket.key, bucket.checksum] = bucket.code


class Kept:
    """What the applications of earlier tests leave to those of later ones."""

    def __init__(self) -> None:
        self._pages = Pages()
        self._dialects: dict[str, tuple[sa.Dialect, sa.util.LRUCache]] = {}

    def share_with(self, app: Flask) -> None:
        """Give a new application what has been kept."""
        app.jinja_env.bytecode_cache = self._pages
        with app.app_context():
            engine = db.engine
        own = engine.dialect
        if own.name in self._dialects:
            engine.dialect, engine._compiled_cache = self._dialects[own.name]
            setattr(own, "initialize", _ask_nothing)  # noqa: B010 - mypy allows no other way

    def keep_from(self, app: Flask) -> None:
        """Keep what an application has that was used. Needs its context.

        Statements are compiled for a dialect, and every engine makes one of its own.
        """
        dialect = db.engine.dialect
        was_used = getattr(dialect, "default_isolation_level", None) is not None
        if was_used and dialect.name not in self._dialects:
            self._dialects[dialect.name] = dialect, sa.util.LRUCache(_STATEMENTS)


def _ask_nothing(_: sa.Connection) -> None:
    """In the place of the questions that a dialect has for a server at its first connection."""


def parse_rules_once() -> None:
    """Let each rule of addresses be parsed for the first application alone."""
    parse = Rule._parse_rule
    kept: dict[str, tuple[list[RulePart], list[tuple[bool, str]], dict[str, Any]]] = {}

    def parse_once(self: LazyRule, rule: str) -> Iterable[RulePart]:
        if rule not in kept:
            begin = len(self._trace)
            parts = list(parse(self, rule))
            kept[rule] = parts, self._trace[begin:], dict(self._converters)
            return parts
        parts, trace, converters = kept[rule]
        self._trace += trace
        self._converters |= converters
        self.arguments |= converters.keys()
        return parts

    setattr(LazyRule, "_parse_rule", parse_once)  # noqa: B010 - mypy allows no other way
