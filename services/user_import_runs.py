"""The work on imports: reading and checking a file, writing its users, undoing what was added.

A worker holds an import by a lease, which a thread renews while the process lives. Every chunk is
one transaction that begins by proving the lease and locking the import's row: a worker that is
killed leaves whole chunks, and who cancels waits for the chunk that is being written. What is left
to do is told by the rows alone.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from extensions import db, get_settings, queues
from models import (
    WORKED_ON,
    Customer,
    Delivery,
    ImportRowState,
    ImportState,
    Mailing,
    ResetLink,
    Role,
    SelectedUser,
    SignInSession,
    User,
    UserImport,
    UserImportRow,
    UserStatus,
    Welcome,
    WelcomeState,
    table_of,
    utcnow,
)
from models.base import ID
from services import mailing_confirmations, reset_links, user_import_files, user_imports
from services.actors import Actor, Permission
from services.audit_events import insert_events, record_event
from services.bulk_rows import analyse, load_rows, update_rows
from services.customer_locks import lock_customer
from services.errors import InvalidInput, NotFound
from services.mailing_freezes import Audience
from services.tabular_files import Record, Table, UnreadableFile
from services.transactions import run_session_transaction, run_transaction
from services.user_accounts import insert_users
from services.user_import_checks import Judge, Verdict

log = logging.getLogger(__name__)

CHUNK = 500
SLICE_SECONDS = 10.0
"""After so long a worker lets others have their turn, if there are any."""

_LONGEST_SLICE = 120.0
_ANALYSED_AT = (CHUNK, 20 * CHUNK)
_WIPED_AT_ONCE = 5000
_WIPED_IMPORTS = 20
_IMPORTS, _ROWS, _USERS = table_of(UserImport), table_of(UserImportRow), table_of(User)
# The index is conditional on these words, so that they must not be parameters.
_IS_WORKED_ON = _IMPORTS.c.state.in_([sa.literal_column(f"'{each.value}'") for each in WORKED_ON])
_PENDING = (ImportRowState.TO_ADD, ImportRowState.TO_UPDATE, ImportRowState.SAME)
_RESULTS = {
    ImportRowState.TO_ADD: ImportRowState.ADDED,
    ImportRowState.TO_UPDATE: ImportRowState.UPDATED,
    ImportRowState.SAME: ImportRowState.UNCHANGED,
    ImportRowState.FAULTY: ImportRowState.FAILED,
}
_ADDED_BY_IMPORT = Audience(
    User.id.in_(
        sa.select(_ROWS.c.user_id).where(
            _ROWS.c.import_id == sa.bindparam("import_id", type_=ID),
            _ROWS.c.state == sa.literal_column("'added'"),
        )
    )
)


class LeaseLost(Exception):
    """Somebody else works on the import by now, or it has been cancelled."""


@dataclass(frozen=True, slots=True)
class Lease:
    import_id: int
    token: str


def list_waiting() -> list[int]:
    """Imports with something to do and nobody at it, the oldest first."""
    query = (
        sa.select(_IMPORTS.c.id).where(_IS_WORKED_ON, _is_free()).order_by(_IMPORTS.c.id).limit(100)
    )
    with db.engine.connect() as connection:
        return list(connection.scalars(query))


def _is_free() -> sa.ColumnElement[bool]:
    return sa.or_(_IMPORTS.c.lease_token.is_(None), _IMPORTS.c.lease_expires_at <= utcnow())


def claim(import_id: int) -> Lease | None:
    """Take an import that has something to do; None when there is nothing, or somebody has it."""
    token = secrets.token_hex(16)

    def work(connection: sa.Connection) -> int:
        return connection.execute(
            sa.update(_IMPORTS)
            .where(_IMPORTS.c.id == import_id, _IS_WORKED_ON, _is_free())
            .values(lease_token=token, lease_expires_at=_lease_end())
        ).rowcount

    return Lease(import_id, token) if run_transaction(work) else None


def _lease_end() -> Any:
    return utcnow() + timedelta(seconds=get_settings().lease_seconds)


def hold(connection: sa.Connection, lease: Lease) -> ImportState:
    """Begin a transaction of the lease's holder: locks the import and renews the lease.

    Nobody else can have it as long as the token is ours. Raises LeaseLost.
    """
    state: ImportState | None = connection.execute(
        sa.update(_IMPORTS)
        .where(_IMPORTS.c.id == lease.import_id, _IMPORTS.c.lease_token == lease.token)
        .values(lease_expires_at=_lease_end())
        .returning(_IMPORTS.c.state)
    ).scalar_one_or_none()
    if state is None:
        raise LeaseLost
    return state


def let_go(connection: sa.Connection, lease: Lease, **values: Any) -> None:
    """Give the lease up, in a transaction that has begun with `hold`."""
    connection.execute(
        sa.update(_IMPORTS)
        .where(_IMPORTS.c.id == lease.import_id)
        .values(lease_token=None, lease_expires_at=None, **values)
    )


def work_on_import(import_id: int, interrupted: Callable[[], bool]) -> bool:
    """Do what an import waits for, for one time slice; returns whether something is left.

    Between chunks it makes room for others: when `interrupted` says that somebody waits, and after
    a while in any case.
    """
    lease = claim(import_id)
    if lease is None:
        return False
    return Slice(lease, interrupted).run()


class Slice:
    """One time slice of work on one import."""

    def __init__(self, lease: Lease, interrupted: Callable[[], bool]) -> None:
        self._lease = lease
        self._interrupted = interrupted
        self._app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self._stop = threading.Event()
        self._started = time.monotonic()

    def run(self) -> bool:
        keeper = threading.Thread(target=self._keep_lease, daemon=True)
        keeper.start()
        try:
            return self._work()
        except LeaseLost:
            log.info("import %s was cancelled, or somebody else has it", self._lease.import_id)
        except Exception as error:  # noqa: BLE001 - whatever it was, the sweep starts it again
            # Without its message, which may be people's data.
            log.error(
                "import %s broke off, its lease will expire: %s\n%s",
                self._lease.import_id,
                type(error).__name__,
                "".join(traceback.format_tb(error.__traceback__)),
            )
        finally:
            self._stop.set()
            keeper.join()
            db.session.remove()
        return False

    def _keep_lease(self) -> None:
        with self._app.app_context():
            while not self._stop.wait(get_settings().lease_seconds / 4):
                try:
                    run_transaction(lambda connection: hold(connection, self._lease))
                except LeaseLost:
                    return
                except SQLAlchemyError as error:
                    log.warning("the lease was not renewed: %s", type(error).__name__)

    def _work(self) -> bool:
        imported = self._load()
        works = {
            ImportState.CHECKING: self._check,
            ImportState.IMPORTING: self._import,
            ImportState.UNDOING: self._undo,
        }
        work = works.get(imported.state)
        return False if work is None else work()

    def _load(self) -> UserImport:
        """The import as it is now, with its customer, beyond any transaction."""
        db.session.remove()
        imported = db.session.get_one(UserImport, self._lease.import_id)
        db.session.get_one(Customer, imported.customer_id)
        return imported

    def _transact(self, state: ImportState, work: Callable[[], Any]) -> Any:
        """Run `work` in a session's transaction that holds the lease and the import's state.

        The session begins empty, so that memory does not grow from chunk to chunk.
        """

        def held() -> Any:
            db.session.expunge_all()
            if hold(db.session.connection(), self._lease) is not state:
                raise LeaseLost
            result = work()
            db.session.commit()
            return result

        try:
            return run_session_transaction(held)
        except BaseException:
            db.session.rollback()
            raise

    def _is_over(self) -> bool:
        """Whether others have their turn now."""
        worked = time.monotonic() - self._started
        return worked >= _LONGEST_SLICE or (worked >= SLICE_SECONDS and self._interrupted())

    def _rest(self, state: ImportState) -> bool:
        """Let others have their turn; there is something left."""
        self._transact(state, lambda: let_go(db.session.connection(), self._lease))
        return True

    # --- Checking --------------------------------------------------------------------------------

    def _check(self) -> bool:
        imported = self._load()
        try:
            if not imported.read_to:
                self._forget_rows(imported.id)
            with (
                user_import_files.opened(imported) as file,
                user_import_files.table_in(file, imported) as table,
            ):
                return self._read(imported, table)
        except UnreadableFile as error:
            self._fail_check(str(error))
        return False

    def _forget_rows(self, import_id: int) -> None:
        """Delete the rows of an earlier check."""
        while self._transact(ImportState.CHECKING, lambda: _delete_rows(import_id)):
            pass

    def _read(self, imported: UserImport, table: Table) -> bool:
        read_to, count = imported.read_to, imported.rows
        most = get_settings().user_import_rows
        following = _beyond(table, imported, read_to)
        while records := list(islice(following, CHUNK)):
            count += len(records)
            if count > most:
                raise UnreadableFile(
                    f"The file has more than {most:,} rows. Split it into several files."
                )
            share = table.share
            self._transact(ImportState.CHECKING, lambda: self._stage(records, share))  # noqa: B023
            if self._is_over():
                return self._rest(ImportState.CHECKING)
        if not count:
            below = " below its headings" if imported.has_headings else ""
            raise UnreadableFile(f"The file has no rows{below}.")
        self._transact(
            ImportState.CHECKING,
            lambda: let_go(
                db.session.connection(),
                self._lease,
                state=ImportState.CHECKED,
                share=1.0,
                changed_at=utcnow(),
            ),
        )
        return False

    def _stage(self, records: Sequence[Record], share: float) -> None:
        """Check some records and write them down."""
        imported = db.session.get_one(UserImport, self._lease.import_id)
        judge = Judge(
            _actor_of(imported), db.session.get_one(Customer, imported.customer_id), imported
        )
        verdicts = judge.judge([(record.number, record.cells) for record in records])
        connection = db.session.connection()
        load_rows(
            connection,
            _ROWS,
            ("import_id", "position", "state", "login_key", "cells", "faults"),
            [
                (
                    imported.id,
                    record.number,
                    verdict.state,
                    verdict.login_key,
                    record.cells,
                    [list(fault) for fault in verdict.faults],
                )
                for record, verdict in zip(records, verdicts, strict=True)
            ],
        )
        _analyse_grown(connection, _ROWS, imported.rows, len(records))
        counted = _count([verdict.state for verdict in verdicts])
        _change(connection, imported.id, counted, read_to=records[-1].number, share=share)

    def _fail_check(self, problem: str) -> None:
        self._transact(
            ImportState.CHECKING,
            lambda: let_go(
                db.session.connection(),
                self._lease,
                state=ImportState.FAILED,
                problem=problem[:500],
                changed_at=utcnow(),
            ),
        )

    # --- Importing -------------------------------------------------------------------------------

    def _import(self) -> bool:
        try:
            for state in _PENDING:
                while self._transact(ImportState.IMPORTING, lambda: self._write(state)):  # noqa: B023
                    if self._is_over():
                        return self._rest(ImportState.IMPORTING)
            self._finish()
        except NotFound as error:  # The customer is being deleted.
            self._end(ImportState.IMPORTING, ImportState.CANCELLED, error.message)
        return False

    def _write(self, state: ImportRowState) -> int:
        """Import the next rows of a state, each judged once more; returns how many there were."""
        imported = db.session.get_one(UserImport, self._lease.import_id)
        customer = db.session.get_one(Customer, imported.customer_id)
        lock_customer(customer)
        rows = _next_rows(imported.id, state)
        if not rows:
            return 0
        actor = _actor_of(imported)
        verdicts = Judge(actor, customer, imported).judge(
            [(row.position, row.cells) for row in rows]
        )
        detail = {"import": imported.id}
        new = [each for each in verdicts if each.state is ImportRowState.TO_ADD]
        added = insert_users(actor, customer, [each.values for each in new], detail) if new else []
        ids = {each.login_key: user.id for each, user in zip(new, added, strict=True)}
        _update_users(actor, customer, verdicts, detail)
        results = [
            (
                row.id,
                _RESULTS[verdict.state],
                [list(fault) for fault in verdict.faults],
                verdict.user.id if verdict.user is not None else ids.get(verdict.login_key),
            )
            for row, verdict in zip(rows, verdicts, strict=True)
        ]
        connection = db.session.connection()
        for table in (_USERS, table_of(Welcome)):
            _analyse_grown(connection, table, imported.added, len(added))
        update_rows(connection, _ROWS, ("state", "faults", "user_id"), results)
        counted = _count([each for _, each, _, _ in results])
        _change(connection, imported.id, {**counted, state: counted.get(state, 0) - len(rows)})
        return len(rows)

    def _finish(self) -> None:
        """The end of an import, with the welcome mails in the same transaction."""
        imported = self._load()
        mail, problem = None, ""
        customer = db.session.get_one(Customer, imported.customer_id)
        if imported.sends_welcome and imported.added:
            try:
                mail = user_imports.require_welcome(customer)
            except InvalidInput as error:
                problem = f"No welcome mails were sent. {error.message}"
        mailing: Mailing | None = self._transact(
            ImportState.IMPORTING, lambda: self._conclude(mail, problem)
        )
        if mailing is not None:
            queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)

    def _conclude(
        self, mail: mailing_confirmations.ChosenMail | None, problem: str
    ) -> Mailing | None:
        imported = db.session.get_one(UserImport, self._lease.import_id)
        customer = db.session.get_one(Customer, imported.customer_id)
        mailing = None
        if mail is not None:
            mailing = mailing_confirmations.accept_mailing(
                _actor_of(imported),
                customer,
                mail,
                _ADDED_BY_IMPORT,
                {"import_id": imported.id},
                lane=mailing_confirmations.lane_for(imported.added),
                include_recent=True,
            )
            imported.mailing_id = mailing.id
        _end_now(imported, ImportState.FINISHED, problem)
        _record(imported, "finished")
        db.session.flush()
        return mailing

    def _end(self, before: ImportState, after: ImportState, problem: str = "") -> None:
        def work() -> None:
            imported = db.session.get_one(UserImport, self._lease.import_id)
            _end_now(imported, after, problem)
            _record(imported, after.value)
            db.session.flush()

        self._transact(before, work)

    # --- Undoing ---------------------------------------------------------------------------------

    def _undo(self) -> bool:
        while self._transact(ImportState.UNDOING, self._take_back):
            if self._is_over():
                return self._rest(ImportState.UNDOING)
        self._end(ImportState.UNDOING, ImportState.UNDONE)
        return False

    def _take_back(self) -> int:
        """Delete the next users who were added and whom nobody has used or changed."""
        imported = db.session.get_one(UserImport, self._lease.import_id)
        customer = db.session.get_one(Customer, imported.customer_id)
        lock_customer(customer)
        rows = _next_rows(imported.id, ImportRowState.ADDED)
        if not rows:
            return 0
        connection = db.session.connection()
        unused = _find_unused(connection, imported, [row.user_id for row in rows])
        ids = list(unused)
        if ids:
            _wipe_users(connection, ids)
            insert_events(
                connection,
                _actor_of(imported),
                "user.deleted",
                customer_id=customer.id,
                object_type="user",
                details={
                    user_id: {"before": {"login": login}, "import": imported.id}
                    for user_id, login in unused.items()
                },
            )
        kept = [["login", "Was changed, mailed or used since, so the user stays."]]
        results = [
            (row.id, ImportRowState.UNDONE, [])
            if row.user_id in unused
            else (row.id, ImportRowState.KEPT, kept)
            for row in rows
        ]
        update_rows(connection, _ROWS, ("state", "faults"), results)
        counted = _count([each for _, each, _ in results])
        _change(connection, imported.id, {**counted, ImportRowState.ADDED: -len(rows)})
        return len(rows)


def _analyse_grown(connection: sa.Connection, table: sa.Table, before: int, more: int) -> None:
    """Analyse a table when an import, which had written `before` rows to it, writes so many more
    that the plans of before no longer serve."""
    if any(before < number <= before + more for number in _ANALYSED_AT):
        analyse(connection, table)


def _beyond(table: Table, imported: UserImport, read_to: int) -> Iterator[Record]:
    """The records of users after those that have been read."""
    is_first = imported.has_headings
    for record in table.records():
        if is_first:
            is_first = False
        elif record.number > read_to:
            yield record


def _next_rows(import_id: int, state: ImportRowState) -> Sequence[Any]:
    return (
        db.session.connection()
        .execute(
            sa.select(_ROWS.c.id, _ROWS.c.position, _ROWS.c.cells, _ROWS.c.user_id)
            .where(_ROWS.c.import_id == import_id, _ROWS.c.state == state)
            .order_by(_ROWS.c.position)
            .limit(CHUNK)
        )
        .all()
    )


def _update_users(
    actor: Actor, customer: Customer, verdicts: Sequence[Verdict], detail: dict[str, Any]
) -> None:
    """Write what is to change of users, as changing one of them does."""
    events = {}
    for verdict in verdicts:
        if verdict.state is not ImportRowState.TO_UPDATE or verdict.user is None:
            continue
        if "email" in verdict.after:
            reset_links.close_links_of(verdict.user)
        for name in verdict.values.keys() & _USERS.c.keys():
            setattr(verdict.user, name, verdict.values[name])
        verdict.user.version += 1
        events[verdict.user.id] = {"before": verdict.before, "after": verdict.after, **detail}
    if events:
        db.session.flush()
        insert_events(
            db.session.connection(),
            actor,
            "user.changed",
            customer_id=customer.id,
            object_type="user",
            details=events,
        )


def _find_unused(
    connection: sa.Connection, imported: UserImport, user_ids: Sequence[int]
) -> dict[int, str]:
    """Logins by id of those users who are as they were added: unchanged, never mailed, never in.

    Of administrators and supervisors only where whoever undoes the import may touch them.
    """
    users = _USERS.c
    referring = [
        sa.select(table_of(model).c.user_id).where(table_of(model).c.user_id == users.id)
        for model in (Delivery, SignInSession)
    ]
    query = sa.select(users.id, users.login).where(
        users.id.in_(user_ids),
        users.customer_id == imported.customer_id,
        users.role == Role.USER if imported.only_users else sa.true(),
        users.version == 1,
        users.password_hash.is_(None),
        users.unconfirmed_hash.is_(None),
        users.last_sign_in_at.is_(None),
        users.status == UserStatus.ACTIVE,
        sa.exists().where(Welcome.user_id == users.id, Welcome.state == WelcomeState.NEVER),
        *(~each.exists() for each in referring),
    )
    return {row.id: row.login for row in connection.execute(query)}


def _wipe_users(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Leave rows without a person, and free their logins: nobody has ever been told them.

    The rows stay, as those of all deleted users do: to delete one, the database would look through
    every table that may refer to it.
    """
    for model in (SelectedUser, ResetLink):
        column = table_of(model).c.user_id
        connection.execute(sa.delete(table_of(model)).where(column.in_(ids)))
    freed = sa.literal("undone-") + sa.cast(_USERS.c.id, sa.String)
    emptied = ("first_name", "last_name", "surname_key", "email", "email_key", "extension")
    connection.execute(
        sa.update(_USERS)
        .where(_USERS.c.id.in_(ids))
        .values(
            {
                "status": UserStatus.DELETED,
                "login": freed,
                "login_key": freed,
                "name_key": freed,
                "bundle_id": None,
                "profile_id": None,
                "version": _USERS.c.version + 1,
                **dict.fromkeys(emptied, ""),
            }
        )
    )


def _actor_of(imported: UserImport) -> Actor:
    """Whoever began the import, with what he was let to do with it."""
    return Actor(
        user_id=imported.created_by_id,
        login=imported.actor_login,
        role=Role.SUPERVISOR if imported.only_users else Role.CUSTOMER_ADMIN,
        customer_id=imported.customer_id,
        address=imported.address,
        granted=frozenset({Permission.USERS_IMPORT, Permission.MAILINGS_SEND}),
        behalf_id=imported.behalf_id,
        behalf_login=imported.behalf_login,
    )


def _count(states: Sequence[ImportRowState]) -> dict[ImportRowState, int]:
    return {state: states.count(state) for state in set(states)}


def _change(
    connection: sa.Connection, import_id: int, counted: dict[ImportRowState, int], **values: Any
) -> None:
    """Add to the counters of an import."""
    connection.execute(
        sa.update(_IMPORTS)
        .where(_IMPORTS.c.id == import_id)
        .values(
            {state.value: _IMPORTS.c[state.value] + number for state, number in counted.items()}
            | values
        )
    )


def _end_now(imported: UserImport, state: ImportState, problem: str) -> None:
    now = utcnow()
    imported.state, imported.problem = state, problem[:500]
    imported.changed_at = imported.finished_at = now
    imported.lease_token = imported.lease_expires_at = None


def _record(imported: UserImport, what: str) -> None:
    record_event(
        _actor_of(imported),
        f"user_import.{what}",
        customer_id=imported.customer_id,
        object_type="user_import",
        object_id=imported.id,
        detail={
            name: count
            for name in ("added", "updated", "unchanged", "failed", "undone", "kept")
            if (count := getattr(imported, name))
        },
    )


# --- Wiping --------------------------------------------------------------------------------------


def wipe_old_imports() -> None:
    """Delete rows and files that have lain for their days, and those of discarded imports.

    A few thousand rows at a time; what is left waits for the next sweep.
    """
    before = utcnow() - timedelta(days=get_settings().user_import_days)
    discarded = sa.and_(_IMPORTS.c.state == ImportState.CANCELLED, _IMPORTS.c.started_at.is_(None))
    query = (
        sa.select(_IMPORTS.c.id)
        .where(
            _IMPORTS.c.wiped_at.is_(None),
            sa.or_(_IMPORTS.c.changed_at < before, discarded),
            sa.not_(_IS_WORKED_ON),
        )
        .order_by(_IMPORTS.c.changed_at)
        .limit(_WIPED_IMPORTS)
    )
    with db.engine.connect() as connection:
        import_ids = list(connection.scalars(query))
    for import_id in import_ids:
        run_session_transaction(lambda: _wipe(import_id))  # noqa: B023 - done at once
        db.session.remove()


def _wipe(import_id: int) -> None:
    connection = db.session.connection()
    user_import_files.remove(connection, import_id)
    if _delete_rows(import_id) < _WIPED_AT_ONCE:
        now = utcnow()
        unfinished = (ImportState.UPLOADED, ImportState.CHECKED, ImportState.FAILED)
        connection.execute(
            sa.update(_IMPORTS)
            .where(_IMPORTS.c.id == import_id)
            .values(
                wiped_at=now,
                head=[],
                state=sa.case(
                    (_IMPORTS.c.state.in_(unfinished), ImportState.CANCELLED.value),
                    else_=_IMPORTS.c.state,
                ),
            )
        )
    db.session.commit()


def _delete_rows(import_id: int) -> int:
    """Delete some rows of an import; returns how many."""
    some = sa.select(_ROWS.c.id).where(_ROWS.c.import_id == import_id).limit(_WIPED_AT_ONCE)
    return db.session.connection().execute(sa.delete(_ROWS).where(_ROWS.c.id.in_(some))).rowcount
