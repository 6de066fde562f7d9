"""Files that are written while they are sent."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from flask import Response, stream_with_context

from models import utcnow
from services.attachment_parts import AttachedFile
from services.csv_export import stream_csv


def csv_download(name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Response:
    """A CSV file called `name` and the date, streamed so that its length costs no memory."""
    response = Response(stream_with_context(stream_csv(header, rows)), mimetype="text/csv")
    response.headers.set(
        "Content-Disposition", "attachment", filename=f"{name}-{utcnow():%Y-%m-%d}.csv"
    )
    return response


def file_download(file: AttachedFile) -> Response:
    """A file that somebody uploaded, to be kept and never shown: whatever is in it does nothing."""
    response = Response(file.content, content_type=file.content_type)
    plain = unicodedata.normalize("NFKD", file.name).encode("ascii", "ignore").decode()
    names = {"filename": f"file{plain}" if plain.startswith(".") else plain}
    if plain != file.name:  # By RFC 6266, whose second name goes before the first.
        names["filename*"] = f"UTF-8''{quote(file.name, safe='')}"
    response.headers.set("Content-Disposition", "attachment", **names)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
