"""One way to report errors: a page that says what happened and what to do."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, flash, g, make_response, render_template
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from werkzeug.exceptions import HTTPException

from blueprints.api import problems
from blueprints.htmx import wants_fragment
from extensions import db
from services import errors

log = logging.getLogger(__name__)

PAGES = {400, 403, 404, 405, 409, 413, 429, 500, 503}


def report(
    status: int, message: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """An error page; htmx gets the sentence as a toast and keeps what is on the screen."""
    db.session.rollback()
    if problems.is_api_request():
        return problems.report_status(status, message, headers)
    template = f"errors/{status if status in PAGES else 400 if status < 500 else 500}.html"
    if wants_fragment() and message:
        flash(message, "bad")
        body = render_template("_toasts.html")
        headers = {**(headers or {}), "HX-Reswap": "none"}
    else:
        body = render_template(template, message=message, request_id=g.get("request_id", ""))
    response = make_response(body, status)
    response.headers.update(headers or {})
    return response


def init_app(app: Flask) -> None:
    @app.errorhandler(problems.InvalidAccess)
    def _invalid_access(error: problems.InvalidAccess) -> Response:
        db.session.rollback()
        return problems.invalid_access(is_unknown=error.is_unknown)

    @app.errorhandler(problems.Refused)
    def _refused(error: problems.Refused) -> Response:
        db.session.rollback()
        return problems.problem(
            error.problem.name, error.detail, errors=error.errors, headers=error.headers
        )

    @app.errorhandler(errors.NotFound)
    def _not_found(error: errors.NotFound) -> Response:
        if problems.is_api_request():
            db.session.rollback()
            return problems.invalid_access()
        return report(404, error.message)

    @app.errorhandler(errors.Forbidden)
    def _forbidden(error: errors.Forbidden) -> Response:
        return report(403, error.message)

    @app.errorhandler(errors.InvalidInput)
    def _invalid(error: errors.InvalidInput) -> Response:
        if problems.is_api_request():
            db.session.rollback()
            return problems.invalid_input([(error.field, error.message)])
        return report(400, error.message)

    @app.errorhandler(errors.InvalidInputs)
    def _all_invalid(error: errors.InvalidInputs) -> Response:
        if problems.is_api_request():
            db.session.rollback()
            return problems.invalid_input(error.faults)
        return report(400, error.faults[0][1])

    @app.errorhandler(errors.Stale)
    def _stale(error: errors.Stale) -> Response:
        return report(412 if problems.is_api_request() else 409, error.message)

    @app.errorhandler(errors.Conflict)
    def _conflict(error: errors.Conflict) -> Response:
        return report(409, error.message)

    @app.errorhandler(errors.Throttled)
    def _throttled(error: errors.Throttled) -> Response:
        return report(429, error.message, {"Retry-After": str(error.retry_after)})

    @app.errorhandler(CSRFError)
    def _no_token(_error: CSRFError) -> Response:
        return report(
            400,
            "This page has been open for too long or in another session, so nothing was changed. "
            "Load it again and repeat what you did.",
        )

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response | HTTPException:
        if error.code is None or error.code < 400:
            return error
        headers = (
            {"Allow": ", ".join(sorted(error.valid_methods or []))}
            if (error.code == 405 and hasattr(error, "valid_methods"))
            else {}
        )
        return report(error.code, headers=headers)

    @app.errorhandler(DataError)
    def _bad_data(_error: DataError) -> Response:
        return report(400, "A value in this request is too large or malformed.")

    @app.errorhandler(IntegrityError)
    def _overtaken(_error: IntegrityError) -> Response:
        return report(
            409,
            "Something that this depends on was changed at the same moment. "
            "Nothing was done. Load the page again and repeat what you did.",
        )

    @app.errorhandler(OperationalError)
    def _database(error: OperationalError) -> Response:
        log.error("database: %s", type(error.orig).__name__)
        return report(503)

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Any:
        log.error("unexpected error", exc_info=_scrubbed(error))
        return report(500)


def _scrubbed(error: Exception) -> Exception:
    """The error for the log; database errors carry parameters, which may be secrets."""
    if hasattr(error, "hide_parameters"):
        error.hide_parameters = True
    return error
