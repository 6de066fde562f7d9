"""gunicorn's settings, here and in production; GUNICORN_CMD_ARGS overrides any of them."""

import gc
import os
from typing import Any

wsgi_app = "app:create_app()"
bind = f"127.0.0.1:{os.environ.get('PORT') or 8000}"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
worker_class = "gthread"
threads = 4
timeout = 30
graceful_timeout = 5
keepalive = 75
errorlog = "-"
loglevel = "warning" if os.environ.get("FOYER_ENV", "development") == "development" else "info"
# A header field named SCRIPT_NAME or PATH_INFO says nothing of where the application is.
forwarder_headers = ""
# Its default path is shared by all of a person's servers.
control_socket_disable = True


def post_worker_init(_worker: Any) -> None:
    """What the application is made of stays: looking through it for garbage finds nothing."""
    gc.collect()
    gc.freeze()
