"""Rules of the URL map that are made ready when they are first used.

Werkzeug writes and compiles two functions per rule to build its address. With some hundreds of
rules that takes a process most of its start, and few processes ever build most of the addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.routing import Rule

Builder = Callable[..., tuple[str, str]]

_builders: dict[Any, Builder] = {}
"""By what they are made from: a process may have several applications, as tests do."""


class LazyRule(Rule):
    def _compile_builder(self, append_unknown: bool = True) -> Builder:
        compile_now = super()._compile_builder

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            source = (rule.rule, tuple(self._trace), repr(self.defaults), append_unknown)
            builder = _builders.get(source)
            if builder is None:
                builder = _builders[source] = compile_now(append_unknown)
            return builder(rule, **values)

        return build
