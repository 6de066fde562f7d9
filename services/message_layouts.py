"""Layouts: how the values of a message come to stand in its text.

A part of a message is a tuple of pieces: text, places of values, and optional parts. For pages it
is filled in piece by piece. For the wire, the text between the places is encoded beforehand, and
what many recipients have in common is filled in once for them all, so that one `%` does the rest.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

import markupsafe

from services.mail_headers import MessageError, clean_line, clean_lines, header_text
from services.mail_html import Context, check_link
from services.placeholders import Field, Kind, Node, OptionalPart, Placeholder, fields_of
from services.quoted_printable import SOFT_BREAK, encode, encode_piece, is_plain

_LAYOUTS_KEPT = 64
_VALUES_KEPT = 512


def _escape(value: str) -> str:
    return str(markupsafe.escape(value))


_WRITERS: Mapping[Context, Callable[[str], str]] = {
    Context.TEXT: str,
    Context.HTML: lambda value: _escape(value).replace("\n", "<br>\n"),
    Context.HREF: lambda value: _escape(check_link(value)) if value else "",
    Context.HREF_PART: lambda value: _escape(quote(value, safe="@")),
}
_PLAIN_AS_IT_IS = frozenset({Context.TEXT, Context.HTML})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is written."""

    placeholder: Placeholder
    context: Context


_Piece = TypeVar("_Piece")


@dataclass(frozen=True, slots=True)
class Option(Generic[_Piece]):
    """An optional part: left out when one of the placeholders in `names` has no value."""

    names: tuple[str, ...]
    pieces: tuple[_Piece, ...]


Pieces = tuple[str | Place | Option[str | Place], ...]
_NumberedPieces = tuple[bytes | int | Option[bytes | int], ...]


def pieces_of(nodes: Iterable[Node], contexts: Iterator[Context]) -> Pieces:
    """Return parsed nodes as pieces; `contexts` has one for each of their fields, in order."""

    def piece(node: str | Field) -> str | Place:
        return node if isinstance(node, str) else Place(node.placeholder, next(contexts))

    return tuple(
        Option(
            tuple({field.placeholder.name: None for field in fields_of((node,))}),
            tuple(piece(inner) for inner in node.nodes),
        )
        if isinstance(node, OptionalPart)
        else piece(node)
        for node in nodes
    )


def encode_text(pieces: Pieces) -> Pieces:
    """Return the pieces with their text in quoted-printable, and a soft break after each place."""

    def encoded(pieces: Iterable[str | Place]) -> Iterator[str | Place]:
        for piece in pieces:
            if isinstance(piece, str):
                yield encode_piece(piece)
            else:
                yield piece
                yield SOFT_BREAK

    def expanded() -> Iterator[str | Place | Option[str | Place]]:
        for piece in pieces:
            if isinstance(piece, Option):
                yield Option(piece.names, tuple(encoded(piece.pieces)))
            else:
                yield from encoded((piece,))

    return tuple(expanded())


def placeholders_of(*parts: Pieces) -> list[Placeholder]:
    """Return the placeholders of several parts, each once."""
    places = (place for part in parts for place in _places(part))
    return list({place.placeholder.name: place.placeholder for place in places}.values())


def fill(pieces: Pieces, cleaned: Mapping[str, str]) -> str:
    """Return the text, lines ending in LF. `cleaned` has every value. Raises MessageError."""
    chosen: Iterator[str | Place] = _chosen(pieces, lambda name: _is_given(cleaned[name]))
    return "".join(
        piece if isinstance(piece, str) else _written(piece, cleaned[piece.placeholder.name])
        for piece in chosen
    )


def clean_values(placeholders: Iterable[Placeholder], values: Mapping[str, str]) -> dict[str, str]:
    """Return what `fill` needs. Raises MessageError for a missing value."""
    try:
        return {each.name: _cleaned(each, values[each.name]) for each in placeholders}
    except KeyError as error:
        raise _missing(error) from None


def _missing(error: KeyError) -> MessageError:
    return MessageError(f"There is no value for “(({error.args[0]}))”.")


def _cleaned(placeholder: Placeholder, value: str) -> str:
    """Return the value without control characters, on one line unless it may have several."""
    if value.isprintable():
        return value
    multiline = placeholder.kind is Kind.MULTILINE
    return clean_lines(value).strip("\n") if multiline else clean_line(value)


def _is_given(cleaned: str) -> bool:
    return bool(cleaned) and not cleaned.isspace()


def _written(place: Place, cleaned: str) -> str:
    try:
        return _WRITERS[place.context](cleaned)
    except MessageError as error:
        raise MessageError(f"“(({place.placeholder.name}))”: {error}") from None


def _chosen(
    pieces: Iterable[_Piece | Option[_Piece]], is_given: Callable[[str], bool]
) -> Iterator[_Piece]:
    """Return the pieces that are left when the optional parts without a value are left out."""
    for piece in pieces:
        if not isinstance(piece, Option):
            yield piece
        elif all(map(is_given, piece.names)):
            yield from piece.pieces


def _places(pieces: Pieces) -> list[Place]:
    every: Iterator[str | Place] = _chosen(pieces, lambda _: True)
    return [piece for piece in every if isinstance(piece, Place)]


@dataclass(frozen=True, slots=True)
class _Slot:
    """A placeholder whose value is each recipient's own, and its places in the body."""

    placeholder: Placeholder
    places: tuple[Place, ...]
    takes_plain: bool
    decides: bool
    """Whether an optional part of the body depends on the value."""

    def write(self, value: str) -> tuple[list[bytes], bool]:
        """Return the value as it goes into each place, and whether there is one."""
        if self.takes_plain and is_plain(value):
            return [value.encode()] * len(self.places), _is_given(value)
        cleaned = _cleaned(self.placeholder, value)
        forms = [encode(_written(place, cleaned)).encode() for place in self.places]
        return forms, _is_given(cleaned)


class _Layout(NamedTuple):
    """A message in which only what is each recipient's own is left to fill in.

    `pick` chooses what fills `pattern` from the values of `_HEADERS` and what the slots write, in
    order. `subject` is None when it is each recipient's own.
    """

    pattern: bytes
    pick: Callable[[list[bytes]], tuple[bytes, ...]]
    subject: bytes | None


_HEADERS = ("To", "Subject", "Date", "Message-ID")


class Layouts:
    """A message for the wire. What recipients have in common is filled in once and kept.

    Safe to share between threads. Nothing kept is a credential.
    """

    def __init__(self, subject: Pieces, body: Pieces) -> None:
        """`body` is what follows the recipient's headers, its text as it goes over the wire."""
        everything = placeholders_of(subject, body)
        places = list(dict.fromkeys(_places(body)))
        deciding = {name for piece in body if isinstance(piece, Option) for name in piece.names}
        self._shared = [each for each in everything if each.shared]
        self._slots = [_slot(each, places, deciding) for each in everything if not each.shared]
        self._shared_values = _getter(self._shared)
        self._own_values = _getter(slot.placeholder for slot in self._slots)
        self._subject = subject
        self._subject_placeholders = placeholders_of(subject)
        self._shared_places = [place for place in places if place.placeholder.shared]
        own_places = [place for slot in self._slots for place in slot.places]
        self._body = _numbered(body, self._shared_places + own_places)
        self._encode_kept = lru_cache(_VALUES_KEPT)(self._encode)
        self._lay_out_kept = lru_cache(_LAYOUTS_KEPT)(self._lay_out)

    def fill(
        self, values: Mapping[str, str], *, to: bytes, date: bytes, message_id: bytes
    ) -> bytes:
        """Return the whole message. Raises MessageError."""
        try:
            shared, own = self._shared_values(values), self._own_values(values)
        except KeyError as error:
            raise _missing(error) from None
        filling = [to, b"", date, message_id]
        given: list[bool] = []
        for slot, value in zip(self._slots, own, strict=True):
            forms, is_given = slot.write(value)
            filling += forms
            if slot.decides:
                given.append(is_given)
        layout = self._lay_out_kept(shared, tuple(given))
        filling[1] = self._subject_of(values) if layout.subject is None else layout.subject
        return layout.pattern % layout.pick(filling)

    def _subject_of(self, values: Mapping[str, str]) -> bytes:
        cleaned = clean_values(self._subject_placeholders, values)
        return header_text(fill(self._subject, cleaned)).encode()

    def _lay_out(self, shared: tuple[str, ...], given: tuple[bool, ...]) -> _Layout:
        """Fill in the values of shared placeholders. Raises MessageError.

        `given` says of each slot that decides about optional parts whether it has a value.
        """
        values = dict(zip((each.name for each in self._shared), shared, strict=True))
        cleaned = clean_values(self._shared, values)
        deciding = (slot.placeholder.name for slot in self._slots if slot.decides)
        present = {name for name, is_given in zip(deciding, given, strict=True) if is_given}
        present |= {name for name, value in cleaned.items() if _is_given(value)}
        written = [
            self._encode_kept(number, cleaned[place.placeholder.name])
            for number, place in enumerate(self._shared_places)
        ]
        chunks = [f"{name}: %b\r\n".encode() for name in _HEADERS]
        order = list(range(len(_HEADERS)))
        chosen: Iterator[bytes | int] = _chosen(self._body, present.__contains__)
        for piece in chosen:
            if isinstance(piece, bytes):
                chunks.append(piece)
            elif piece < len(written):
                chunks.append(written[piece])
            else:
                chunks.append(b"%b")
                order.append(piece - len(written) + len(_HEADERS))
        is_shared = all(each.shared for each in self._subject_placeholders)
        subject = self._subject_of(values) if is_shared else None
        return _Layout(b"".join(chunks), itemgetter(*order), subject)

    def _encode(self, number: int, cleaned: str) -> bytes:
        return _literal(encode(_written(self._shared_places[number], cleaned)))


def _getter(placeholders: Iterable[Placeholder]) -> Callable[[Mapping[str, str]], tuple[str, ...]]:
    names = tuple(each.name for each in placeholders)
    if len(names) > 1:  # With one name, itemgetter returns no tuple.
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


def _slot(placeholder: Placeholder, places: Iterable[Place], deciding: Container[str]) -> _Slot:
    own = tuple(place for place in places if place.placeholder is placeholder)
    takes_plain = all(place.context in _PLAIN_AS_IT_IS for place in own)
    return _Slot(placeholder, own, takes_plain, placeholder.name in deciding)


def _numbered(body: Pieces, places: Sequence[Place]) -> _NumberedPieces:
    """Return the body as parts of a `%` pattern, with each place as its number in `places`."""
    numbers = {place: number for number, place in enumerate(places)}

    def part(piece: str | Place) -> bytes | int:
        return _literal(piece) if isinstance(piece, str) else numbers[piece]

    return tuple(
        Option(piece.names, tuple(map(part, piece.pieces)))
        if isinstance(piece, Option)
        else part(piece)
        for piece in body
    )


def _literal(text: str) -> bytes:
    return text.encode().replace(b"%", b"%%")
