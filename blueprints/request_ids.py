"""The id of a request: in its answer, in what it logs, on the error page that is read out."""

from __future__ import annotations

import logging
import re
import secrets

from flask import Flask, g, has_request_context, request

_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s%(in_request)s"


def name_request() -> None:
    """The id that a proxy or the caller gave it, where it is a plain token, or a new one."""
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _SANE.fullmatch(given) else secrets.token_hex(8)


def _tell(record: logging.LogRecord) -> bool:
    found = g.get("request_id") if has_request_context() else None
    record.in_request = f" (request {found})" if found else ""
    return True


def init_logging() -> None:
    """Every line that is logged during a request ends with its id."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_tell)  # A second time changes nothing.


def init_app(app: Flask) -> None:
    app.before_request(name_request)
