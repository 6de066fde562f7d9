"""Reading what comes back: delivery status notifications (RFC 3464) and their many relatives.

Whatever bytes come in, `read_report` answers: what cannot be read reports nothing. Work is bounded
by looking at the beginning of a message only, and by leaving the returned mail, which carries
passwords, unread.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32
from enum import StrEnum
from itertools import islice

log = logging.getLogger(__name__)

LONGEST_REASON = 500
_READ_BYTES = 256 * 1024
_MOST_BOUNDARIES = 30
_MOST_PARTS = 50
_MOST_HEADERS = 10
_LONGEST_HEADER = 4000
_LONGEST_TEXT = 64 * 1024

_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)
"""What the standard library's parser is known to raise for messages that are none."""


class Verdict(StrEnum):
    """HARD and SOFT have failed for good; a HARD one would fail again for the same address."""

    HARD = "hard"
    SOFT = "soft"
    NOT_FINAL = "not final"
    NO_REPORT = "no report"


@dataclass(frozen=True, slots=True)
class Report:
    """What a message reports. `addressed_to` are the addresses its headers name as recipients.

    `reason` is in the server's words; `explanation` says in ours why the address is a bad one, and
    is given for HARD only.
    """

    verdict: Verdict
    status: str = ""
    reason: str = ""
    explanation: str = ""
    addressed_to: tuple[str, ...] = ()


def read_report(raw: bytes) -> Report:
    """What `raw`, a whole message, reports. Never raises."""
    start = raw[:_READ_BYTES]
    if start.lower().count(b"boundary") > _MOST_BOUNDARIES:
        return Report(Verdict.NO_REPORT)  # Nested deeper than a report is, to keep us busy.
    try:
        message = BytesParser(policy=_ReportPolicy()).parsebytes(start)
        return _read(message)
    except _UNREADABLE as error:
        log.info("a returned message cannot be read: %s", type(error).__name__)
        return Report(Verdict.NO_REPORT)


class _ReportPolicy(Compat32):
    """Keeps reports and returned mails as text, and clips headers.

    The parser would descend into the one and take time that grows with the square of the other.
    """

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        value = value[:_LONGEST_HEADER]
        if name.lower() == "content-type" and value.lstrip().lower().startswith("message/"):
            value = "text/" + value.lstrip()[len("message/") :]
        return name, value


def _read(message: Message) -> Report:
    leaves = list(_leaves(message))
    judged = _read_status(leaves) or _read_free_text(message, leaves)
    return Report(
        judged.verdict,
        judged.status,
        judged.reason[:LONGEST_REASON],
        judged.explanation,
        tuple(_recipients(message)),
    )


def _leaves(message: Message) -> Iterator[Message]:
    waiting = [message]
    for _ in range(_MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop()
        payload = part.get_payload()
        if isinstance(payload, list):
            waiting.extend(each for each in reversed(payload) if isinstance(each, Message))
        else:
            yield part


def _text_of(part: Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    charset = str(part.get_param("charset", "")).lower()
    single_byte = charset.startswith(("iso-8859-", "windows-125", "latin"))
    try:
        return payload[:_LONGEST_TEXT].decode(charset if single_byte else "utf-8", "replace")
    except LookupError:
        return payload[:_LONGEST_TEXT].decode("utf-8", "replace")


_RECIPIENT_HEADERS = ("To", "Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To")
_ADDRESS = re.compile(r"[^\s<>,;:()]{1,256}@[^\s<>,;:()]{1,256}")


def _recipients(message: Message) -> Iterator[str]:
    for name in _RECIPIENT_HEADERS:
        for value in message.get_all(name, [])[:_MOST_HEADERS]:
            yield from _ADDRESS.findall(str(value))[:_MOST_HEADERS]


# --- RFC 3464 ----------------------------------------------------------------------------------

_STATUS_TYPES = {"text/delivery-status", "text/global-delivery-status"}
_NOT_FINAL = {"delayed", "delivered", "relayed", "expanded"}
_TYPED = re.compile(r"\A\s*[A-Za-z][A-Za-z0-9.-]{0,40}\s*;\s*")


def _read_status(leaves: list[Message]) -> Report | None:
    """The worst that a delivery-status part says of a recipient; None where there is no such."""
    part = next((each for each in leaves if each.get_content_type() in _STATUS_TYPES), None)
    if part is None:
        return None
    told = _words_in_text(leaves)
    reports = [_judge_fields(each, told) for each in islice(_blocks(_text_of(part)), _MOST_PARTS)]
    order = list(Verdict)
    return min(
        (each for each in reports if each.verdict is not Verdict.NO_REPORT),
        key=lambda each: order.index(each.verdict),
        default=None,
    )


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """The fields of each block, by their names in lower case, unfolded."""
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += " " + line.strip()
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()


def _judge_fields(fields: dict[str, str], told: str) -> Report:
    """The report on one recipient; `told` is what the text says, where no field quotes a server."""
    if not fields.keys() & {"action", "status"}:
        return Report(Verdict.NO_REPORT)
    action = fields.get("action", "").partition(" ")[0].lower()
    status = fields.get("status", "")
    if action in _NOT_FINAL:
        return Report(Verdict.NOT_FINAL, status)
    if action != "failed" and not status.startswith("5"):
        is_other = status.startswith(("2", "4"))
        return Report(Verdict.NOT_FINAL if is_other else Verdict.NO_REPORT, status)
    words = _clean(_TYPED.sub("", fields.get("diagnostic-code", "")))
    return _judge(status, words or told)


# --- Without a delivery-status part ------------------------------------------------------------

_MAILERS = ("mailer-daemon", "postmaster", "mail delivery", "maildelivery")
_COPY_WORDS = (
    "below this line",
    "copy of",
    "message header",
    "original header",
    "original message",
    "returned message",
    "unsent message",
)
_COPY_HEADERS = ("received:", "return-path:", "message-id:", "mime-version:", "dkim-signature:")
_WAITING_WORDS = (
    "could not be delivered yet",
    "do not need to resend",
    "has been delayed",
    "is being delayed",
    "message delayed",
    "not yet been delivered",
    "still trying",
    "warning message only",
    "will be retried",
    "will continue to",
    "will keep trying",
)
_FAILURE_WORDS = ("could not", "couldn't", "error", "fail", "permanent", "reject", "undeliver")
_REPLY = re.compile(r"(?<![\d.])[45]\d\d[ -]|(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?![\d.])")
_FINAL_REPLY = re.compile(r"(?<![\d.])5[0-7]\d[ -]|(?<![\d.])5\.\d{1,3}\.\d{1,3}(?![\d.])")


def _read_free_text(message: Message, leaves: list[Message]) -> Report:
    """Exim's and qmail's ways: a failure told in sentences, by a mailer and not by a person."""
    failed = message.get("X-Failed-Recipients") is not None
    sender = str(message.get("From", "")).lower()
    if not failed and not any(each in sender for each in _MAILERS):
        return Report(Verdict.NO_REPORT)
    lines = _own_lines(leaves)
    text = "\n".join(lines).lower()
    if any(each in text for each in _WAITING_WORDS):
        return Report(Verdict.NOT_FINAL)
    by_qmail = "this is the qmail-send program" in text
    words = _words_in_text(leaves)
    is_told = bool(_FINAL_REPLY.search(words)) and any(each in text for each in _FAILURE_WORDS)
    if not failed and not by_qmail and not is_told:
        return Report(Verdict.NO_REPORT)
    return _judge("", words)


def _words_in_text(leaves: list[Message]) -> str:
    """The line of the explanation that quotes the server, or else names a known trouble."""
    lines = _own_lines(leaves)
    for is_it in (_FINAL_REPLY.search, _REPLY.search, _names_bad_address):
        for place, line in enumerate(lines):
            if is_it(line):
                return _clean(" ".join(_sentence(lines, place)))
    return ""


def _sentence(lines: list[str], place: int) -> Iterable[str]:
    """A line with those that carry it on, as far in as it is or farther; at most four."""
    indent = max(1, _indent(lines[place]))
    yield lines[place]
    for line in lines[place + 1 : place + 4]:
        if not line.strip() or _indent(line) < indent:
            return
        yield line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _own_lines(leaves: list[Message]) -> list[str]:
    """The mailer's text, without the copy of the returned mail that may follow it."""
    part = next((each for each in leaves if each.get_content_type() == "text/plain"), None)
    lines: list[str] = []
    for line in _text_of(part).splitlines() if part is not None else ():
        lower = line.lower()
        if "--" in line and any(each in lower for each in _COPY_WORDS):
            break
        if lower.startswith(_COPY_HEADERS):
            break
        lines.append(line)
    return lines


# --- What the words and codes mean (RFC 3463) --------------------------------------------------

_CODE = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_REPLY_CODE = re.compile(r"(?<![\d.])([45])\d\d(?!\d)")

_MAILBOX = "The mailbox does not exist."
_DOMAIN = "The domain does not exist or takes no mail."
_DISABLED = "The mailbox is disabled."
_BAD_ADDRESS = {
    (1, 1): _MAILBOX,
    (1, 2): _DOMAIN,
    (1, 3): "The address is not a valid one.",
    (1, 4): "The address belongs to more than one mailbox.",
    (1, 6): "The mailbox has moved.",
    (1, 10): _MAILBOX,
    (2, 1): _DISABLED,
    (4, 4): _DOMAIN,
    (4, 310): _DOMAIN,
}
_VAGUE = {(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1), (5, 0)}
"""Codes that say so little, or are so often used for something else, that words decide."""

_BAD_WORDS = {
    "domain not found": _DOMAIN,
    "host not found": _DOMAIN,
    "no such domain": _DOMAIN,
    "unrouteable address": _DOMAIN,
    "unroutable address": _DOMAIN,
    "account disabled": _DISABLED,
    "account has been disabled": _DISABLED,
    "account is disabled": _DISABLED,
    "mailbox disabled": _DISABLED,
    "mailbox is disabled": _DISABLED,
    "account inactive": _DISABLED,
    "is inactive": _DISABLED,
    "does not exist": _MAILBOX,
    "doesn't exist": _MAILBOX,
    "doesn't have a": _MAILBOX,
    "invalid mailbox": _MAILBOX,
    "invalid recipient": _MAILBOX,
    "mailbox not found": _MAILBOX,
    "mailbox unavailable": _MAILBOX,
    "mailbox unknown": _MAILBOX,
    "no mailbox here": _MAILBOX,
    "no such address": _MAILBOX,
    "no such mailbox": _MAILBOX,
    "no such recipient": _MAILBOX,
    "no such user": _MAILBOX,
    "not a known user": _MAILBOX,
    "recipient address rejected: access denied": _MAILBOX,
    "recipient not found": _MAILBOX,
    "recipient unknown": _MAILBOX,
    "unknown local part": _MAILBOX,
    "unknown recipient": _MAILBOX,
    "unknown user": _MAILBOX,
    "user not found": _MAILBOX,
    "user unknown": _MAILBOX,
}
_OTHER_WORDS = ("quota", "is full", "too quickly", "at a rate", "spam", "blocked", "blacklist")
"""Where one of these stands, the trouble is not the address."""


def _judge(status: str, words: str) -> Report:
    """The verdict on a failure: its class, subject and detail, and where those are vague, words."""
    kind, code, shown = _precise_code(status, words)
    reason = words or (
        f"The mail came back with status {shown}." if shown else "The mail came back."
    )
    explanation = _why_bad(kind, code, words.lower())
    verdict = Verdict.HARD if explanation else Verdict.SOFT
    return Report(verdict, shown, reason, explanation)


def _precise_code(status: str, words: str) -> tuple[int, tuple[int, int], str]:
    """Class, (subject, detail) and the code as written; from `words` where `status` is vague."""
    found = [match for text in (status, words) for match in _CODE.finditer(text) if match[1] != "2"]
    if not found:
        reply = _REPLY_CODE.search(words)
        return (int(reply[1]) if reply else 5), (0, 0), ""
    exact = next((each for each in found if (each[2], each[3]) != ("0", "0")), found[0])
    return int(exact[1]), (int(exact[2]), int(exact[3])), exact[0]


def _why_bad(kind: int, code: tuple[int, int], words: str) -> str:
    """Why no further mail should go to the address; empty where a later one may arrive."""
    if kind != 5 or any(each in words for each in _OTHER_WORDS):
        return ""
    if code in _BAD_ADDRESS:
        return _BAD_ADDRESS[code]
    about_sender = "sender" in words and "recipient" not in words
    if code not in _VAGUE or about_sender:
        return ""
    return _named_trouble(words)


def _named_trouble(words: str) -> str:
    return next((meaning for part, meaning in _BAD_WORDS.items() if part in words), "")


def _names_bad_address(line: str) -> bool:
    return bool(_named_trouble(line.lower()))


def _clean(text: str) -> str:
    """One line of what can be seen: no controls, no marks that turn the writing around."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:LONGEST_REASON]
