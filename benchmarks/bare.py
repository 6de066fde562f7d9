"""The unit: one smtplib connection that sends ready-made bytes.

Run as a process, `python -m benchmarks.bare PORT COUNT MAILS`; prints the seconds it took. MAILS
holds welcome mails as the engine sent them, one JSON object per line; each goes to its own
recipient, in turn.
"""

from __future__ import annotations

import argparse
import json
import smtplib
import time
from itertools import cycle, islice
from pathlib import Path

Mail = tuple[str, str, bytes]


def load_mails(path: Path) -> list[Mail]:
    """Sender, recipient and bytes of the mails that the scripted sink kept in `path`."""
    with path.open() as lines:
        loaded = [json.loads(line) for line in lines]
    return [(each["sender"], each["recipient"], each["message"].encode()) for each in loaded]


def send(port: int, mails: list[Mail], count: int) -> float:
    """Send `count` mails over one connection; return the seconds from connecting to the end."""
    started = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", port) as connection:
        for sender, recipient, message in islice(cycle(mails), count):
            connection.sendmail(sender, recipient, message)
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("mails", type=Path)
    options = parser.parse_args()
    print(json.dumps({"seconds": send(options.port, load_mails(options.mails), options.count)}))
