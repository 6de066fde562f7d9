"""Dry runs: what checked commands would do, counted by the database and never row by row."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa

from extensions import db, get_settings
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    Group,
    Mailing,
    SkipReason,
    User,
)
from models.mailings import COUNTERS
from services import mailings, recipients
from services.actors import Actor, customers_in_scope
from services.command_checks import (
    Cell,
    CheckedCommand,
    CheckedListing,
    CheckedMailing,
    CheckedStatus,
    CheckedSteering,
    CheckedText,
    kind_of,
    raise_errors,
)
from services.command_language import (
    COMMANDS,
    CommandError,
    Help,
    ListBundles,
    ListCustomers,
    format_command,
)
from services.command_names import chunks
from services.command_plans import (
    FirstRecipient,
    LinePlan,
    LineResult,
    Listing,
    MailingPlan,
    MailingStatus,
    Plan,
    PlanRow,
    Steering,
)
from services.errors import InvalidInput
from services.mailing_confirmations import render_first
from services.mailing_freezes import skip_reason

# A text can name tens of thousands of customers on a thousand lines; a plan is read by people.
ROWS_PER_LINE = 1_000
ROWS_PER_PLAN = 10_000
MESSAGES_PER_PLAN = 25

SKIP_WORDS: Mapping[SkipReason, str] = {
    SkipReason.NO_ADDRESS: "without an e-mail address",
    SkipReason.RECENTLY_MAILED: "recently mailed",
    SkipReason.SUSPENDED: "suspended",
    SkipReason.DELETED: "deleted",
    SkipReason.SUPPRESSED: "on the suppression list",
    SkipReason.ADDRESS_CHANGED: "with an address that has changed",
    SkipReason.REPLACED: "replaced by a newer mail",
}


def plan_commands(actor: Actor, checked: CheckedText) -> Plan:
    """What the commands would do now.

    Raises CommandErrors with the errors of the text, to which lines with nobody to mail are added.
    """
    return _DryRun(actor).run(checked)


def describe_skipped(skipped: Mapping[SkipReason, int]) -> str:
    """How many are skipped for which reason: "10 recently mailed, 2 suspended"."""
    return ", ".join(
        f"{skipped[reason]:,} {words}"
        for reason, words in SKIP_WORDS.items()
        if skipped.get(reason)
    )


def nobody_to_mail(checked: CheckedMailing, skipped: Mapping[SkipReason, int]) -> CommandError:
    """Nobody would get a mail; the error says why."""
    total = sum(skipped.values())
    if not total:
        message = "Nobody is there to mail: no user of these customers has one of these bundles."
    elif total == 1:
        message = f"Nobody is left to mail. The only user is {describe_skipped(skipped)[2:]}."
    else:
        message = f"Nobody is left to mail. All {total:,} users: {describe_skipped(skipped)}."
    return checked.command.error(message, "at least one user who can be mailed")


@dataclass
class _Counted:
    """The users of one cell: how many get the mail, the first of them, who does not."""

    recipients: int = 0
    first: int | None = None
    skipped: Counter[SkipReason] = field(default_factory=Counter)


class _DryRun:
    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._rate = mailings.estimate_rate()
        self._rows_left = ROWS_PER_PLAN
        self._messages_left = MESSAGES_PER_PLAN
        self._named: dict[int, set[Cell]] = defaultdict(set)
        self.errors: list[CommandError] = []

    def run(self, checked: CheckedText) -> Plan:
        lines: list[LinePlan] = []
        for each in checked.commands:
            if checked.errors and not isinstance(each, CheckedMailing):
                continue  # Nothing will be shown, and it cannot fail.
            if (result := self._plan(each)) is not None:
                command = each.command
                lines.append(
                    LinePlan(command.place.line, format_command(command), kind_of(command), result)
                )
        raise_errors((*checked.errors, *self.errors))
        return Plan(tuple(lines))

    def _plan(self, checked: CheckedCommand) -> LineResult | None:
        match checked:
            case CheckedMailing():
                return self._plan_mailing(checked)
            case CheckedListing():
                return self._list(checked)
            case CheckedStatus():
                return _status(checked.mailing)
            case CheckedSteering():
                return Steering(
                    mailing_id=checked.mailing.id,
                    action=checked.action,
                    template=checked.mailing.template_version.template.name,
                    state=checked.state,
                    total=checked.mailing.total,
                    counters=_counters(checked.mailing),
                )

    # --- Mailings ---

    def _plan_mailing(self, checked: CheckedMailing) -> MailingPlan | None:
        counted = _count_users(checked)
        already_named = self._skip_named(checked, counted)
        skipped = dict(sum((cell.skipped for cell in counted.values()), Counter[SkipReason]()))
        total = sum(cell.recipients for cell in counted.values())
        firsts = [cell.first for cell in counted.values() if cell.first is not None]
        if not firsts:
            self.errors.append(nobody_to_mail(checked, skipped))
            return None
        row = _read_recipient(min(firsts))
        try:
            message = render_first(row, checked.prepared)
        except InvalidInput as error:
            self.errors.append(
                checked.command.error(error.message, "a template that can be written to everybody")
            )
            return None
        self._messages_left -= 1
        rows = _rows(checked, counted)
        kept = self._keep(rows)
        return MailingPlan(
            template=checked.template.name,
            template_id=checked.template.id,
            template_version_id=checked.version.id,
            resets_portal=checked.resets_portal,
            resets_application=checked.resets_application,
            customers=len(checked.customers),
            recipients=total,
            skipped=skipped,
            already_named=already_named,
            rows=tuple(rows[:kept]),
            rows_left_out=len(rows) - kept,
            first=FirstRecipient(
                row.user_id,
                recipients.full_name(row) or row.login,
                row.login,
                row.email,
                row.web_id,
            ),
            message=message if self._messages_left >= 0 else None,
            seconds=self._estimate_seconds(total, counted),
            per_second=self._rate,
        )

    def _estimate_seconds(self, total: int, counted: Mapping[Cell, _Counted]) -> int | None:
        """A customer's users mostly share a domain, so its ceiling holds for each customer."""
        if self._rate is None:
            return None
        seconds = total / self._rate
        if ceiling := get_settings().mail_max_per_second_per_domain:
            of_customers: Counter[int] = Counter()
            for (customer_id, _), cell in counted.items():
                of_customers[customer_id] += cell.recipients
            seconds = max(seconds, max(of_customers.values()) / ceiling)
        return math.ceil(seconds)

    def _skip_named(self, checked: CheckedMailing, counted: dict[Cell, _Counted]) -> int:
        """Take out who gets the template by an earlier line; returns how many those are.

        Customers and bundles are named whole, so a line has all of a cell's users or none.
        """
        named = self._named[checked.template.id]
        moved = 0
        for cell in named.intersection(counted):
            here = counted[cell]
            moved += here.recipients
            here.skipped[SkipReason.RECENTLY_MAILED] += here.recipients
            here.recipients, here.first = 0, None
        named |= checked.cells
        return moved

    def _keep(self, rows: Sequence[Any]) -> int:
        kept = min(len(rows), ROWS_PER_LINE, self._rows_left)
        self._rows_left -= kept
        return kept

    # --- Listings ---

    def _list(self, checked: CheckedListing) -> Listing:
        match checked.command:
            case Help():
                rows = [(entry.usage, entry.example, entry.summary) for entry in COMMANDS]
                return self._listing(("Command", "Example", "What it does"), rows, len(rows))
            case ListBundles():
                return self._list_bundles(checked.ids)
            case ListCustomers():
                return self._list_customers(checked.ids)

    def _list_bundles(self, customer_ids: tuple[int, ...] | None) -> Listing:
        query = (
            sa.select(Customer.web_id, Customer.name, Bundle.name)
            .join(CustomerBundle, CustomerBundle.customer_id == Customer.id)
            .join(Bundle, Bundle.id == CustomerBundle.bundle_id)
            .where(customers_in_scope(self._actor))
            .order_by(Customer.web_id, Bundle.name)
        )
        if customer_ids is not None:
            query = query.where(Customer.id.in_(customer_ids))
        rows = [tuple(row) for row in db.session.execute(query.limit(self._rows_wanted))]
        return self._listing(("Customer", "Name", "Bundle"), rows, _count_rows(query))

    def _list_customers(self, bundle_ids: tuple[int, ...] | None) -> Listing:
        query = (
            sa.select(Customer.id, Customer.web_id, Customer.name, Group.name, Customer.status)
            .join(Group, Group.id == Customer.group_id)
            .where(customers_in_scope(self._actor))
            .order_by(Customer.web_id)
        )
        if bundle_ids is not None:
            has_one = sa.exists().where(
                CustomerBundle.customer_id == Customer.id, CustomerBundle.bundle_id.in_(bundle_ids)
            )
            query = query.where(has_one)
        found = db.session.execute(query.limit(self._rows_wanted)).all()
        bundles = _bundle_names([row.id for row in found])
        rows = [(*row[1:4], row[4].value, ";".join(bundles[row.id])) for row in found]
        header = ("Customer", "Name", "Group", "Status", "Bundles")
        return self._listing(header, rows, _count_rows(query))

    @property
    def _rows_wanted(self) -> int:
        return min(ROWS_PER_LINE, self._rows_left)

    def _listing(
        self, header: tuple[str, ...], rows: Sequence[tuple[str, ...]], total: int
    ) -> Listing:
        kept = self._keep(rows)
        return Listing(header, tuple(rows[:kept]), total - kept)


def _count_users(checked: CheckedMailing) -> dict[Cell, _Counted]:
    """Count the users of every cell by what would become of their mail, in a few statements."""
    counted = {cell: _Counted() for cell in checked.cells}
    bundle_ids = list(checked.bundles)
    for customer_ids in chunks(checked.customers):
        users = (
            sa.select(
                User.id,
                User.customer_id,
                User.bundle_id,
                skip_reason(checked.template.id, include_recent=False).label("reason"),
            )
            .join(Customer, Customer.id == User.customer_id)
            .where(User.customer_id.in_(customer_ids), User.bundle_id.in_(bundle_ids))
            .subquery()
        )
        groups = (users.c.customer_id, users.c.bundle_id, users.c.reason)
        for customer_id, bundle_id, reason, count, first in db.session.execute(
            sa.select(*groups, sa.func.count(), sa.func.min(users.c.id)).group_by(*groups)
        ):
            cell = counted[customer_id, bundle_id]
            if reason is None:
                cell.recipients, cell.first = count, first
            else:
                cell.skipped[SkipReason(reason)] = count
    return counted


def _rows(checked: CheckedMailing, counted: Mapping[Cell, _Counted]) -> list[PlanRow]:
    rows = [
        PlanRow(
            checked.customers[customer_id].web_id,
            checked.customers[customer_id].name,
            checked.bundles[bundle_id],
            cell.recipients,
            dict(+cell.skipped),
        )
        for (customer_id, bundle_id), cell in counted.items()
    ]
    return sorted(rows, key=lambda row: (row.web_id, row.bundle))


def _read_recipient(user_id: int) -> Any:
    return db.session.execute(
        sa.select(
            User.id.label("user_id"),
            Customer.web_id.label("web_id"),
            *recipients.RECIPIENT_COLUMNS,
        )
        .join(Customer, Customer.id == User.customer_id)
        .outerjoin(Bundle, Bundle.id == User.bundle_id)
        .where(User.id == user_id)
    ).one()


def _bundle_names(customer_ids: Sequence[int]) -> Mapping[int, list[str]]:
    names: dict[int, list[str]] = defaultdict(list)
    rows = db.session.execute(
        sa.select(CustomerBundle.customer_id, Bundle.name)
        .join(Bundle, Bundle.id == CustomerBundle.bundle_id)
        .where(CustomerBundle.customer_id.in_(customer_ids))
        .order_by(Bundle.name)
    )
    for customer_id, name in rows:
        names[customer_id].append(name)
    return names


def _count_rows(query: sa.Select[*tuple[Any, ...]]) -> int:
    counted = sa.select(sa.func.count()).select_from(query.order_by(None).subquery())
    return cast("int", db.session.scalar(counted))


def _counters(mailing: Mailing) -> dict[str, int]:
    return {name: getattr(mailing, name) for name in COUNTERS}


def _status(mailing: Mailing) -> MailingStatus:
    pace = mailings.measure_pace(mailing)
    return MailingStatus(
        mailing_id=mailing.id,
        template=mailing.template_version.template.name,
        state=mailing.state,
        total=mailing.total,
        counters=_counters(mailing),
        per_second=pace.per_second,
        seconds_left=pace.seconds_left,
    )
