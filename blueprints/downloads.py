"""Files that are written while they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flask import Response, stream_with_context

from models import utcnow
from services.csv_export import stream_csv


def csv_download(name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Response:
    """A CSV file called `name` and the date, streamed so that its length costs no memory."""
    response = Response(stream_with_context(stream_csv(header, rows)), mimetype="text/csv")
    response.headers.set(
        "Content-Disposition", "attachment", filename=f"{name}-{utcnow():%Y-%m-%d}.csv"
    )
    return response
