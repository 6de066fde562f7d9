"""Run the mail server and its mailbox page: `python -m localmail --help`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from localmail.server import MailServer
from localmail.store import MailStore
from localmail.web import HOST, MailboxServer, create_mailbox


def main() -> int:
    """Serve until SIGINT or SIGTERM; return an exit code."""
    arguments = _parse()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    store = MailStore(arguments.database)
    mail = MailServer(store, arguments.smtp_port)
    try:
        page = MailboxServer(
            create_mailbox(store, foyer_url=arguments.foyer_url), arguments.http_port
        )
        mail.start()
    except (OSError, SystemExit) as error:
        print(f"The mailbox cannot listen: {error}", file=sys.stderr)
        return 1
    page.start()
    print(f"Mail to {HOST}:{mail.port} is shown at http://{HOST}:{page.port}/", flush=True)
    ended.wait()
    mail.stop()
    page.stop()
    store.close()
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="localmail", description=__doc__)
    parser.add_argument("--smtp-port", type=int, default=8025)
    parser.add_argument("--http-port", type=int, default=8026)
    parser.add_argument("--database", type=Path, default=Path("var/mailbox.db"))
    parser.add_argument("--foyer-url", default="", help="address to link to from the mailbox")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
