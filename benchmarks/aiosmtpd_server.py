"""aiosmtpd as a sink, run as a process: `python -m benchmarks.aiosmtpd_server PORT`.

Prints how many mails it has accepted, at most ten times a second.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from aiosmtpd.smtp import SMTP


class _Counting:
    def __init__(self, pipelining: bool) -> None:
        self.accepted = 0
        self._pipelining = pipelining

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        # It copes with pipelined commands but does not say so.
        return [*responses[:1], "250-PIPELINING", *responses[1:]] if self._pipelining else responses

    async def handle_DATA(self, _server: SMTP, _session: Any, _envelope: Any) -> str:  # noqa: N802
        self.accepted += 1
        return "250 2.0.0 Accepted"


async def _serve(port: int, pipelining: bool) -> None:
    handler = _Counting(pipelining)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, enable_SMTPUTF8=True, decode_data=False), "127.0.0.1", port
    )
    printed = 0
    async with server:
        while True:
            await asyncio.sleep(0.1)
            if handler.accepted != printed:
                printed = handler.accepted
                print(printed, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--no-pipelining", action="store_true")
    options = parser.parse_args()
    asyncio.run(_serve(options.port, not options.no_pipelining))
