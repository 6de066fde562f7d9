"""Addresses for machines: is the process alive, is everything it needs there, and the figures."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from blueprints.security import public
from services import health

bp = Blueprint("system", __name__)


@bp.get("/healthz")
@public
def healthz() -> Response:
    return jsonify(status="ok")


@bp.get("/readyz")
@public
def readyz() -> tuple[Response, int]:
    faults = health.find_faults()
    return jsonify(status="unavailable" if faults else "ok", faults=faults), 503 if faults else 200


@bp.get("/metrics")
@public
def metrics() -> Response:
    return Response(health.render_metrics(), mimetype="text/plain; version=0.0.4")
