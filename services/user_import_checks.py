"""What would become of the rows of an import: judged by the rules of users, before anything is
written and once more when it is."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from extensions import db
from models import (
    Customer,
    ImportRowState,
    Role,
    User,
    UserImport,
    UserImportRow,
    UserStatus,
)
from models.users import ADMINISTRATORS
from services.actors import Actor
from services.csv_export import undefuse
from services.errors import InvalidInput
from services.user_accounts import differences
from services.user_import_columns import read_language, read_role
from services.user_rules import Fault, NewUser, UserRules
from services.xlsx_files import LONGEST_CELL

MOST_CHANGED = 100
"""Rows that may be judged together after their texts were changed."""

_IDENTITIES = ("login", "user_name")
_NEVER_EMPTIED = {"role", "profile", "language"}
"""What a user always has, or has by his role: an empty cell leaves it."""


@dataclass(slots=True)
class Verdict:
    """What is to become of one row. `values` are columns of the user who is added or changed."""

    state: ImportRowState
    login_key: str = ""
    faults: list[Fault] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    user: User | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


class Judge:
    """Judges rows of one import, many at a time, in the session's transaction."""

    def __init__(self, actor: Actor, customer: Customer, imported: UserImport) -> None:
        self._customer, self._import = customer, imported
        self._rules = UserRules(customer, actor)
        self._places = {name: place for place, name in enumerate(imported.columns) if name}
        self._demoted: set[int] = set()

    def judge(self, rows: Sequence[tuple[int, Sequence[str]]]) -> list[Verdict]:
        """A verdict for each pair of position and cells. Positions within the import are unique."""
        read = [self._read(cells) for _, cells in rows]
        judged = [self._judge_as_new(texts) for texts in read]
        keys = {verdict.login_key for verdict in judged if verdict.login_key}
        users = self._find_users(keys)
        for verdict, texts in zip(judged, read, strict=True):
            user = users.get(verdict.login_key)
            if user is not None:
                self._judge_existing(verdict, texts, user)
        self._find_repeated(rows, judged)
        return judged

    def _read(self, cells: Sequence[str]) -> dict[str, str]:
        """The texts of the fields that have a column."""
        return {
            name: undefuse(cells[place]).strip() if place < len(cells) else ""
            for name, place in self._places.items()
        }

    def _judge_as_new(self, texts: dict[str, str]) -> Verdict:
        faults: list[Fault] = [
            (name, "The text is longer than any that is kept. Shorten it.")
            for name, text in texts.items()
            if len(text) >= LONGEST_CELL
        ]
        if not any(texts.get(name) for name in _IDENTITIES):
            name = "user_name" if "user_name" in self._places else "login"
            return Verdict(ImportRowState.FAULTY, faults=[(name, "The login is missing.")])
        role = Role.USER
        try:
            role = read_role(texts.get("role", ""))
        except InvalidInput as error:
            faults.append((error.field, error.message))
        new = NewUser(
            **{name: text for name, text in texts.items() if name not in {"role", "language"}},
            role=role,
            language=read_language(texts.get("language", "")),
        )
        values, wrong = self._rules.judge_new(new, needs_address=self._import.sends_welcome)
        faults += wrong
        state = ImportRowState.FAULTY if faults else ImportRowState.TO_ADD
        return Verdict(state, values.get("login_key", ""), faults, values)

    def _find_users(self, keys: set[str]) -> dict[str, User]:
        if not keys:
            return {}
        found = db.session.scalars(
            sa.select(User)
            .where(User.login_key.in_(keys))
            .options(joinedload(User.bundle), joinedload(User.profile))
            .execution_options(populate_existing=True)
        )
        return {user.login_key: user for user in found}

    def _judge_existing(self, verdict: Verdict, texts: dict[str, str], user: User) -> None:
        """The login is somebody's: he is changed, if that is wanted and he is one of ours."""
        is_ours = user.customer_id == self._customer.id and user.status is not UserStatus.DELETED
        if not (is_ours and self._import.updates):
            name = next(name for name in _IDENTITIES if name in self._places)
            verdict.state = ImportRowState.FAULTY
            verdict.faults = [(name, f"The login {verdict.login_key} is taken."), *verdict.faults]
            return
        verdict.user, verdict.values, verdict.faults = user, {}, []
        given, faults = self._wanted(texts, user)
        if given or faults:
            verdict.values, wrong = self._rules.judge_changes(user, given)
            faults += wrong
        if not faults:
            verdict.before, verdict.after = differences(user, verdict.values)
            faults += self._judge_demotion(user, verdict.after)
        verdict.faults = faults
        verdict.state = (
            ImportRowState.FAULTY
            if faults
            else ImportRowState.TO_UPDATE
            if verdict.after
            else ImportRowState.SAME
        )

    def _wanted(self, texts: dict[str, str], user: User) -> tuple[dict[str, Any], list[Fault]]:
        """What differs from what is known of the user. What does not differ is not judged anew:
        it may be older than a rule."""
        given: dict[str, Any] = {}
        faults: list[Fault] = []
        for name, text in texts.items():
            if name in _IDENTITIES:
                continue
            if not text and (name in _NEVER_EMPTIED or not self._import.empties):
                continue
            if len(text) >= LONGEST_CELL:
                faults.append((name, "The text is longer than any that is kept. Shorten it."))
                continue
            try:
                value: Any = text
                if name == "role":
                    value = read_role(text)
                elif name == "language":
                    value = read_language(text)
            except InvalidInput as error:
                faults.append((error.field, error.message))
                continue
            if not _is_same(value, _known(user, name)):
                given[name] = value
        return given, faults

    def _judge_demotion(self, user: User, after: dict[str, Any]) -> list[Fault]:
        """The customer keeps an active administrator."""
        if user.role is not Role.CUSTOMER_ADMIN or after.get("role", user.role) is user.role:
            return []
        if user.status is UserStatus.ACTIVE:
            others = sa.select(User.id).where(
                User.customer_id == self._customer.id,
                ADMINISTRATORS,
                User.status == UserStatus.ACTIVE,
                User.id.not_in({*self._demoted, user.id}),
            )
            if db.session.scalar(others.limit(1)) is None:
                return [
                    (
                        "role",
                        f"{user.full_name} is the last active administrator of "
                        f"{self._customer.name}. Make somebody else one first.",
                    )
                ]
        self._demoted.add(user.id)
        return []

    def _find_repeated(
        self, rows: Sequence[tuple[int, Sequence[str]]], judged: Sequence[Verdict]
    ) -> None:
        """The first row of a login counts; those after it are faulty."""
        keys = {verdict.login_key for verdict in judged if verdict.login_key}
        if not keys:
            return
        here = {position for position, _ in rows}
        first: dict[str, int] = {}
        staged = db.session.execute(
            sa.select(UserImportRow.login_key, sa.func.min(UserImportRow.position))
            .where(
                UserImportRow.import_id == self._import.id,
                UserImportRow.login_key.in_(keys),
                # Of a few that were changed the keys in the table are those of before.
                UserImportRow.position.not_in(here) if len(here) <= MOST_CHANGED else sa.true(),
            )
            .group_by(UserImportRow.login_key)
        )
        first.update((key, position) for key, position in staged)
        for (position, _), verdict in zip(rows, judged, strict=True):
            if key := verdict.login_key:
                first[key] = min(first.get(key, position), position)
        for (position, _), verdict in zip(rows, judged, strict=True):
            key = verdict.login_key
            if key and first[key] < position:
                name = next(name for name in _IDENTITIES if name in self._places)
                verdict.state = ImportRowState.FAULTY
                verdict.faults = [
                    (name, f"Row {first[key]:,} has the login {key}, too."),
                    *verdict.faults,
                ]


def _known(user: User, name: str) -> Any:
    if name == "bundle":
        return user.bundle.name if user.bundle is not None else ""
    if name == "profile":
        return user.profile.name if user.profile is not None else ""
    return getattr(user, name)


def _is_same(text: Any, known: Any) -> bool:
    """Whether a text says what is known; blanks and how letters are composed do not count."""
    if not isinstance(text, str) or not isinstance(known, str):
        return bool(text == known)
    return text == known or " ".join(unicodedata.normalize("NFC", text).split()) == known
