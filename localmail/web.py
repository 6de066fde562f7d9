"""The mailbox page: what arrived, newest first, shown so that no mail can do harm.

It is served by Werkzeug's own threaded server: one person reads it, on the machine it runs on, and
the project then needs no second web server. Mail content gets its own addresses, a sandbox, and a
policy that allows neither scripts nor requests to anywhere.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, redirect, render_template, request, url_for
from werkzeug.http import dump_options_header
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Response as BaseResponse

from localmail.messages import Readable, read_message, visible
from localmail.store import MailStore, Stored

HOST = "127.0.0.1"
PAGE_SIZE = 50
JSON_LIMIT = 1000
REFRESH_SECONDS = 5

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; frame-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)
_HEAD = re.compile(r"<head(\s[^>]*)?>", re.IGNORECASE)


def create_mailbox(store: MailStore, *, foyer_url: str = "") -> Flask:
    """Make the mailbox's application; `foyer_url`, where given, is linked in its header."""
    app = Flask(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=16 * 1024,
        # Another site's name that resolves to this machine must not read the mails.
        TRUSTED_HOSTS=["127.0.0.1", "localhost"],
    )
    app.jinja_env.filters["moment"] = _moment
    app.jinja_env.globals.update(
        foyer_url=foyer_url, form_token=secrets.token_urlsafe(), refresh_seconds=REFRESH_SECONDS
    )
    app.extensions["mail_store"] = store
    app.after_request(_protect)
    _add_pages(app, store)
    _add_mail_content(app, store)
    _add_styles(app)
    app.register_error_handler(404, _not_found)
    return app


class MailboxServer:
    """Serves the mailbox on 127.0.0.1 in a thread of its own; port 0 takes a free one."""

    def __init__(self, app: Flask, port: int) -> None:
        self._server: BaseWSGIServer = make_server(
            HOST, port, app, threaded=True, request_handler=_QuietHandler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="mailbox", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.server_port

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: a page that refreshes itself would fill the log."""


def _add_pages(app: Flask, store: MailStore) -> None:
    @app.get("/")
    def index() -> Response:
        to, before = _search()
        rows = store.newest(to=to, before=before, limit=PAGE_SIZE + 1)
        live = before is None and request.args.get("live") != "off"
        page = Response(
            render_template(
                "index.html",
                messages=rows[:PAGE_SIZE],
                older=rows[PAGE_SIZE - 1].id if len(rows) > PAGE_SIZE else None,
                to=to,
                before=before,
                live=live,
                total=store.count(),
            )
        )
        if live:
            page.headers["Refresh"] = str(REFRESH_SECONDS)
        return page

    @app.get("/messages/<int:message_id>")
    def message(message_id: int) -> str:
        row, raw = _find(store, message_id)
        view = request.args.get("view", "")
        readable = read_message(raw)
        if view not in {"html", "text", "source"}:
            view = "html" if readable.html else "text"
        source = visible(raw.decode("utf-8", "replace")) if view == "source" else ""
        return render_template(
            "message.html", row=row, message=readable, view=view, source=source, size=len(raw)
        )

    @app.post("/empty")
    def empty() -> BaseResponse:
        token = str(app.jinja_env.globals["form_token"])
        given = request.form.get("token", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            abort(403)
        store.empty()
        return redirect(url_for("index"), 303)

    @app.get("/messages.json")
    def messages() -> Response:
        to, before = _search()
        limit = request.args.get("limit", PAGE_SIZE, type=int)
        rows = store.newest(to=to, before=before, limit=max(1, min(limit, JSON_LIMIT)))
        found = ((row, store.find(row.id)) for row in rows)
        return jsonify([_as_json(row, pair[1]) for row, pair in found if pair])


def _add_mail_content(app: Flask, store: MailStore) -> None:
    @app.get("/messages/<int:message_id>/html")
    def html(message_id: int) -> Response:
        content = read_message(_find(store, message_id)[1]).html
        answer = Response(_in_new_tabs(content), mimetype="text/html")
        answer.headers["Content-Security-Policy"] = _MAIL_POLICY
        return answer

    @app.get("/messages/<int:message_id>/source")
    def source(message_id: int) -> Response:
        raw = _find(store, message_id)[1]
        return _download(raw, f"message-{message_id}.eml", "message/rfc822")

    @app.get("/messages/<int:message_id>/attachments/<int:position>")
    def attachment(message_id: int, position: int) -> Response:
        attachments = read_message(_find(store, message_id)[1]).attachments
        if position >= len(attachments):
            abort(404)
        found = attachments[position]
        return _download(found.content, found.name, "application/octet-stream")


def _add_styles(app: Flask) -> None:
    """Serve this package's style sheet and, from Foyer, the ones it builds on."""
    own = Path(__file__).parent / "static"
    foyer = Path(__file__).parent.parent / "static"
    files = {
        "mailbox.css": own / "mailbox.css",
        "tokens.css": foyer / "css" / "tokens.css",
        "base.css": foyer / "css" / "base.css",
        "modern-normalize.css": foyer / "vendor" / "modern-normalize.css",
    }

    @app.get("/styles/<name>")
    def style(name: str) -> Response:
        path = files.get(name)
        if path is None or not path.is_file():
            abort(404)
        return Response(path.read_bytes(), mimetype="text/css")


def _search() -> tuple[str, int | None]:
    """Read the recipient's first letters and the id to go on from."""
    before = request.args.get("before", type=int)
    valid = before is not None and 0 < before < 2**62
    return visible(request.args.get("to", "")).strip()[:320], before if valid else None


def _find(store: MailStore, message_id: int) -> tuple[Stored, bytes]:
    found = store.find(message_id) if message_id < 2**62 else None
    if found is None:
        abort(404)
    return found


def _as_json(row: Stored, raw: bytes) -> dict[str, Any]:
    readable: Readable = read_message(raw)
    return {
        "id": row.id,
        "received_at": row.received_at.isoformat(),
        "from": row.sender,
        "to": row.recipients,
        "subject": row.subject,
        "message_id": readable.header("Message-ID"),
        "headers": readable.headers,
        "text": readable.text,
        "html": readable.html,
        "attachments": [
            {"name": part.name, "type": part.content_type, "size": len(part.content)}
            for part in readable.attachments
        ],
    }


def _in_new_tabs(html: str) -> str:
    """Let the mail's links open beside the mailbox instead of inside its frame."""
    base = '<base target="_blank">'
    marked, count = _HEAD.subn(lambda head: head.group() + base, html, count=1)
    return marked if count else base + html


def _download(content: bytes, name: str, mimetype: str) -> Response:
    answer = Response(content, mimetype=mimetype)
    plain = name.replace("\n", " ").replace("/", "_").replace("\\", "_")
    answer.headers["Content-Disposition"] = dump_options_header("attachment", {"filename": plain})
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return answer


def _protect(answer: Response) -> Response:
    answer.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["X-DNS-Prefetch-Control"] = "off"
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _not_found(_: Exception) -> tuple[str, int]:
    return render_template("missing.html"), 404


def _moment(when: datetime) -> str:
    """Give the local time today, and the date with it before."""
    local = when.astimezone()
    today = datetime.now(UTC).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"
