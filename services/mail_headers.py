"""Addresses and headers of mails, as they go over the wire."""

import re
import unicodedata
from base64 import b64encode
from email.utils import parseaddr
from functools import lru_cache
from typing import NewType

import idna


class MessageError(ValueError):
    """A template or a value that cannot become a message. The sentence never holds the value."""


class AddressError(MessageError):
    """An e-mail address that no mail can be sent to."""


EnvelopeAddress = NewType("EnvelopeAddress", str)
"""An address that `envelope_address` has found fit for the wire."""


_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a1-\U0010ffff]+"
_LOCAL = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
                     r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")  # fmt: skip
_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/^_`{|}~-]+)*")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CONTROLS_IN_LINES = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]+")
_NEWLINES = re.compile("\r\n|[\r\n\x0b\x0c\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_PLAIN_HEADER_LENGTH = 60
_LONGEST_LINE = 78
_ENCODED_WORD_BYTES = 39  # 66 characters with its frame: fits behind the longest header name.


def envelope_address(address: str) -> tuple[EnvelopeAddress, bool]:
    """Return the address as the SMTP envelope wants it, and whether SMTPUTF8 is needed.

    An internationalised domain becomes punycode. Only a local part beyond ASCII needs SMTPUTF8.
    Raises AddressError.
    """
    local, at, domain = address.rpartition("@")
    if not at or not _LOCAL.fullmatch(local) or not local.isprintable():
        raise AddressError("The e-mail address is not valid.")
    needs_utf8 = not local.isascii()
    if needs_utf8:
        local = unicodedata.normalize("NFC", local)
    wire = f"{local}@{_ascii_domain(domain)}"
    if len(local.encode()) > 64 or len(wire.encode()) > 254:
        raise AddressError("The e-mail address is too long.")
    return EnvelopeAddress(wire), needs_utf8


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    ascii_domain = domain
    if not domain.isascii():
        try:
            ascii_domain = idna.encode(domain, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            raise AddressError("The domain of the e-mail address is not valid.") from None
    if not _DOMAIN.fullmatch(ascii_domain) or len(ascii_domain) > 253:
        raise AddressError("The domain of the e-mail address is not valid.")
    return ascii_domain


def clean_line(value: str) -> str:
    """Return `value` on one line: control characters become spaces, lone surrogates U+FFFD."""
    if value.isprintable():
        return value
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub(" ", value))


def clean_lines(value: str) -> str:
    """Return `value` with LF as its only line end and no control characters but tab."""
    value = _NEWLINES.sub("\n", value)
    return _SURROGATES.sub("\ufffd", _CONTROLS_IN_LINES.sub("", value))


def header_text(value: str) -> str:
    """Return an unstructured header's value in ASCII, folded, RFC 2047 where needed."""
    value = clean_line(value).strip()
    if value.isascii() and len(value) <= _PLAIN_HEADER_LENGTH and "=?" not in value:
        return value
    return _encoded_words(value)


def address_value(header: str, display_name: str, address: EnvelopeAddress) -> str:
    """Return the value of a header that holds one address, folded where it is long."""
    if _PLAIN_NAME.fullmatch(display_name) and len(display_name) <= _PLAIN_HEADER_LENGTH:
        phrase = display_name
    else:
        phrase = _phrase(" ".join(clean_line(display_name).split()))
        if not phrase:
            return address
    value = f"{phrase} <{address}>"
    first_line = 0 if "\n" in phrase else len(header) + 2
    if first_line + len(value) - (value.rfind("\n") + 1) <= _LONGEST_LINE:
        return value
    return f"{phrase}\r\n <{address}>"


def _phrase(text: str) -> str:
    if not text.isascii() or len(text) > _PLAIN_HEADER_LENGTH or "=?" in text:
        return _encoded_words(text)
    if not text or _PHRASE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _encoded_words(text: str) -> str:
    whole = text.encode()
    if len(whole) <= _ENCODED_WORD_BYTES:
        return f"=?utf-8?b?{b64encode(whole).decode()}?="
    words: list[str] = []
    chunk = b""
    for character in text:
        encoded = character.encode()
        if len(chunk) + len(encoded) > _ENCODED_WORD_BYTES:
            words.append(b64encode(chunk).decode())
            chunk = b""
        chunk += encoded
    words.append(b64encode(chunk).decode())
    return "\r\n ".join(f"=?utf-8?b?{word}?=" for word in words)


def dot_stuff(message: bytes) -> bytes:
    """Double the dot at the start of each line (RFC 5321, 4.5.2). Lines end in CRLF."""
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..")


def mailbox(header: str, written: str) -> tuple[str, str]:
    """Return the address for the envelope, and the whole header. Raises AddressError."""
    name, address = parseaddr(written)
    wire, needs_utf8 = envelope_address(address)
    if needs_utf8:
        raise AddressError(f"The address in {header} must be ASCII before the @.")
    return wire, f"{header}: {address_value(header, name, wire)}"
