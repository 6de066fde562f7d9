"""Commands checked against what there is: names, assignments, states. All errors at once.

What is checked here depends on names and assignments alone, never on how many users there are, so
that the dry run and Run can both afford it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from extensions import db
from models import (
    CustomerBundle,
    CustomerEmailTemplate,
    EmailTemplate,
    EmailTemplateVersion,
    Mailing,
    MailingState,
    TemplateKind,
)
from services import mailing_controls, mailings
from services.actors import Actor
from services.command_language import (
    CancelMailing,
    Command,
    CommandError,
    CommandErrors,
    Help,
    ListBundles,
    ListCustomers,
    MailingStatus,
    Name,
    PauseMailing,
    Reading,
    RefusedLine,
    ResendWelcomeEmail,
    ResumeMailing,
    SendEmail,
    limit_errors,
)
from services.command_names import KnownCustomer, Names, chunks, find_pairs
from services.command_plans import CommandKind, SteeringAction
from services.email_templates import get_current_version
from services.errors import ServiceError
from services.mailing_confirmations import prepare_version, resets_of
from services.mailing_controls import Transition
from services.messages import PreparedMessage

Cell = tuple[int, int]
"""A customer and a bundle that is assigned to it, by id."""

_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class CheckedMailing:
    """A command that mails the users in its `cells`."""

    command: ResendWelcomeEmail | SendEmail
    template: EmailTemplate
    version: EmailTemplateVersion
    prepared: Mapping[str, PreparedMessage] = field(repr=False)
    resets_portal: bool
    resets_application: bool
    customers: Mapping[int, KnownCustomer] = field(repr=False)
    bundles: Mapping[int, str]
    cells: frozenset[Cell] = field(repr=False)


@dataclass(frozen=True)
class CheckedSteering:
    """A command that changes a mailing; `state` is what earlier lines will have left."""

    command: PauseMailing | ResumeMailing | CancelMailing
    mailing: Mailing
    action: SteeringAction
    state: MailingState

    @property
    def transition(self) -> Transition:
        return _TRANSITIONS[self.action]


@dataclass(frozen=True)
class CheckedStatus:
    command: MailingStatus
    mailing: Mailing


@dataclass(frozen=True)
class CheckedListing:
    """A command that only lists; `ids` are of the customers or bundles named, None for all."""

    command: ListBundles | ListCustomers | Help
    ids: tuple[int, ...] | None = None


CheckedCommand = CheckedMailing | CheckedSteering | CheckedStatus | CheckedListing


@dataclass(frozen=True)
class CheckedText:
    """The commands in which nothing is wrong so far, and every error that was found."""

    commands: tuple[CheckedCommand, ...]
    errors: tuple[CommandError, ...]


_STEERING: dict[type[Command], SteeringAction] = {
    PauseMailing: SteeringAction.PAUSE,
    ResumeMailing: SteeringAction.RESUME,
    CancelMailing: SteeringAction.CANCEL,
}
_TRANSITIONS = {
    SteeringAction.PAUSE: mailing_controls.PAUSE,
    SteeringAction.RESUME: mailing_controls.RESUME,
    SteeringAction.CANCEL: mailing_controls.CANCEL,
}
_DONE_TO_IT = {
    SteeringAction.PAUSE: "paused",
    SteeringAction.RESUME: "resumed",
    SteeringAction.CANCEL: "cancelled",
}
_KINDS: dict[type[Command], CommandKind] = {
    ResendWelcomeEmail: CommandKind.RESEND_WELCOME_EMAIL,
    SendEmail: CommandKind.SEND_EMAIL,
    ListBundles: CommandKind.LIST_BUNDLES,
    ListCustomers: CommandKind.LIST_CUSTOMERS,
    MailingStatus: CommandKind.MAILING_STATUS,
    PauseMailing: CommandKind.PAUSE_MAILING,
    ResumeMailing: CommandKind.RESUME_MAILING,
    CancelMailing: CommandKind.CANCEL_MAILING,
    Help: CommandKind.HELP,
}


def kind_of(command: Command) -> CommandKind:
    return _KINDS[type(command)]


def check_commands(
    actor: Actor, reading: Reading, planned_versions: Mapping[int, int] | None = None
) -> CheckedText:
    """What was read with what it names, its errors of grammar among all others.

    `planned_versions` are the ids of the template versions that a dry run showed, by line: those
    are then sent, unless the command would now send another template.
    """
    return _Check(actor, reading, planned_versions or {}).run()


def raise_errors(errors: Iterable[CommandError]) -> None:
    """Raise CommandErrors, with as many as are told, when there are any."""
    if in_order := sorted(errors, key=lambda error: (error.line, error.column)):
        raise CommandErrors(limit_errors(in_order))


class _Check:
    def __init__(self, actor: Actor, reading: Reading, planned_versions: Mapping[int, int]) -> None:
        lines = reading.lines
        self._reading = reading
        self._planned_versions = planned_versions
        self._names = Names(
            actor,
            customers=_names_in(lines, "customers"),
            bundles=_names_in(lines, "bundles"),
            templates=[
                *_names_in(lines, "templates"),
                *(each.template for each in lines if isinstance(each, SendEmail)),
            ],
        )
        self.errors = self._names.errors
        sends = [each for each in lines if isinstance(each, ResendWelcomeEmail | SendEmail)]
        customer_ids = self._names.known_customer_ids(_names_in(sends, "customers"))
        self._bundles_of = find_pairs(
            CustomerBundle.customer_id, CustomerBundle.bundle_id, customer_ids
        )
        self._templates_of = find_pairs(
            CustomerEmailTemplate.customer_id, CustomerEmailTemplate.template_id, customer_ids
        )
        self._mailings = _find_mailings(actor, lines)
        self._states = {each.id: each.state for each in self._mailings.values()}
        self._changed_by: dict[int, tuple[int, SteeringAction]] = {}
        self._uncertain: set[int] = set()
        self._versions: dict[int, _Version | ServiceError] = {}
        self._portal: dict[Cell, CheckedMailing] = {}
        self._application: dict[Cell, CheckedMailing] = {}

    def run(self) -> CheckedText:
        checked: list[CheckedCommand] = []
        for each in self._reading.lines:
            if isinstance(each, RefusedLine):
                self._look_up(each)
            elif (found := self._check(each)) is not None:
                checked.append(found)
        return CheckedText(tuple(checked), (*self._reading.errors, *self.errors))

    def _check(self, command: Command) -> CheckedCommand | None:
        match command:
            case ResendWelcomeEmail() | SendEmail():
                return self._check_mailing(command)
            case ListBundles():
                customers = self._names.customers(command.customers)
                ids = tuple(customer.id for _, customer in customers)
                return CheckedListing(command, ids if command.customers else None)
            case ListCustomers():
                ids = tuple(bundle_id for _, bundle_id in self._names.bundles(command.bundles))
                return CheckedListing(command, ids if command.bundles else None)
            case Help():
                return CheckedListing(command)
            case MailingStatus():
                mailing = self._find_mailing(command)
                return None if mailing is None else CheckedStatus(command, mailing)
            case PauseMailing() | ResumeMailing() | CancelMailing():
                return self._check_steering(command)

    def _look_up(self, line: RefusedLine) -> None:
        """Look up the names of a line that cannot be read. More would be guessing."""
        for name in line.templates:
            self._names.template(name)
        self._names.bundles(line.bundles)
        self._names.customers(line.customers)
        self._uncertain |= line.mailing_ids

    # --- Mailings ---

    def _check_mailing(self, command: ResendWelcomeEmail | SendEmail) -> CheckedMailing | None:
        before = len(self.errors)
        bundles = self._names.bundles(command.bundles)
        customers = self._names.customers(command.customers)
        self._check_bundles(command, bundles, customers)
        if isinstance(command, SendEmail):
            template = self._check_template(command, customers)
        else:
            template = self._choose_welcome(command, customers)
        version = None if template is None else self._choose_version(command, template)
        if template is None or version is None or len(self.errors) > before:
            return None
        bundle_ids = {bundle_id for _, bundle_id in bundles}
        checked = CheckedMailing(
            command,
            template,
            version.row,
            version.prepared,
            *version.resets,
            {customer.id: customer for _, customer in customers},
            {bundle_id: name.text for name, bundle_id in bundles},
            frozenset(
                (customer.id, bundle_id)
                for _, customer in customers
                for bundle_id in bundle_ids
                if (customer.id, bundle_id) in self._bundles_of
            ),
        )
        return None if self._refuse_second_passwords(checked) else checked

    def _check_bundles(
        self,
        command: ResendWelcomeEmail | SendEmail,
        bundles: list[tuple[Name, int]],
        customers: list[tuple[Name, KnownCustomer]],
    ) -> None:
        """One bundle is assigned to every customer; several each to at least one of them."""
        if len(command.bundles) == 1:
            for bundle, bundle_id in bundles:
                for name, customer in customers:
                    if (customer.id, bundle_id) not in self._bundles_of:
                        self._refuse(
                            name,
                            f"{name} does not have the bundle {bundle}. "
                            f"Assign it, or leave {name} out.",
                            f"customers that have {bundle}",
                        )
            return
        if len(customers) < len(command.customers):
            return  # It may be assigned to one of those that are unknown.
        for bundle, bundle_id in bundles:
            if not any((customer.id, bundle_id) in self._bundles_of for _, customer in customers):
                self._refuse(
                    bundle,
                    f"{_none_of(command.customers)} the bundle {bundle}. "
                    f"Assign it, or leave {bundle} out.",
                    "bundles that one of the customers has",
                )

    def _check_template(
        self, command: SendEmail, customers: list[tuple[Name, KnownCustomer]]
    ) -> EmailTemplate | None:
        template = self._names.template(command.template)
        if template is None or template.kind is TemplateKind.PASSWORD_RESET:
            return template  # The password reset belongs to all.
        for name, customer in customers:
            if (customer.id, template.id) not in self._templates_of:
                self._refuse(
                    name,
                    f"{name} does not have the e-mail template “{template.name}”. "
                    f"Assign it, or leave {name} out.",
                    f"customers that have “{template.name}”",
                )
        return template

    def _choose_welcome(
        self, command: ResendWelcomeEmail, customers: list[tuple[Name, KnownCustomer]]
    ) -> EmailTemplate | None:
        """The newest welcome template that all of the customers have."""
        welcomes = self._names.welcome_templates
        shared = set(welcomes)
        all_have_one = True
        for name, customer in customers:
            theirs = {each for each in welcomes if (customer.id, each) in self._templates_of}
            shared &= theirs
            if not theirs:
                all_have_one = False
                self._refuse(
                    name,
                    f"{name} does not have a welcome e-mail. Assign one, or leave {name} out.",
                    "customers that have a welcome e-mail",
                )
        if shared:
            return welcomes[max(shared)]
        if customers and all_have_one:
            self.errors.append(
                command.error(
                    "These customers do not have the same welcome e-mail.",
                    "customers that have the same one; make several commands of it",
                )
            )
        return None

    def _choose_version(
        self, command: ResendWelcomeEmail | SendEmail, template: EmailTemplate
    ) -> _Version | None:
        """The version that the dry run showed, else the newest, ready to be sent."""
        at = command.template if isinstance(command, SendEmail) else command
        planned = self._planned_versions.get(command.place.line)
        key = planned or -template.id
        if key not in self._versions:
            self._versions[key] = _read_version(template, planned)
        version = self._versions[key]
        if isinstance(version, ServiceError):
            self.errors.append(at.error(version.message, "a template that can be sent"))
            return None
        if version.row.template_id != template.id:
            self.errors.append(
                at.error(
                    f"This would now send the e-mail template “{template.name}”, "
                    "which the dry run did not show. Submit the command again.",
                    "the template of the dry run",
                )
            )
            return None
        return version

    def _refuse_second_passwords(self, checked: CheckedMailing) -> bool:
        """Refuse a line whose mails replace a password that an earlier line mails; say if so.

        The same template twice is no error: who gets it by the earlier line is skipped.
        """
        for resets, taken, what in (
            (checked.resets_portal, self._portal, "portal"),
            (checked.resets_application, self._application, "application"),
        ):
            if not resets:
                continue
            earlier = next(
                (
                    taken[cell]
                    for cell in sorted(checked.cells)
                    if cell in taken and taken[cell].template.id != checked.template.id
                ),
                None,
            )
            for cell in checked.cells:
                taken.setdefault(cell, checked)
            if earlier is not None:
                self.errors.append(
                    checked.command.error(
                        f"Line {earlier.command.place.line} mails a new {what} password to some of "
                        f"these users already, which this would replace.",
                        "one mail with passwords to each user; run the other one afterwards",
                    )
                )
                return True
        return False

    # --- Steering ---

    def _find_mailing(
        self, command: MailingStatus | PauseMailing | ResumeMailing | CancelMailing
    ) -> Mailing | None:
        mailing = self._mailings.get(command.mailing_id)
        if mailing is None:
            self.errors.append(
                command.error(
                    f"There is no mailing {command.mailing_id}.", "the number of a mailing"
                )
            )
        return mailing

    def _check_steering(
        self, command: PauseMailing | ResumeMailing | CancelMailing
    ) -> CheckedSteering | None:
        mailing = self._find_mailing(command)
        if mailing is None:
            return None
        action, state = _STEERING[type(command)], self._states[mailing.id]
        transition = _TRANSITIONS[action]
        if mailing.id in self._uncertain:
            return None  # A line above, once mended, may leave it in any state.
        if state not in transition.allowed:
            self.errors.append(state_error(command, action, state, self._cause(mailing.id)))
            return None
        self._states[mailing.id] = transition.state
        self._changed_by[mailing.id] = (command.place.line, action)
        return CheckedSteering(command, mailing, action, state)

    def _cause(self, mailing_id: int) -> str:
        if mailing_id not in self._changed_by:
            return ""
        line, action = self._changed_by[mailing_id]
        return f" It is {_DONE_TO_IT[action]} by line {line}."

    def _refuse(self, name: Name, message: str, expected: str) -> None:
        self.errors.append(name.error(message, expected))


def state_error(
    command: PauseMailing | ResumeMailing | CancelMailing,
    action: SteeringAction,
    state: MailingState,
    cause: str = "",
) -> CommandError:
    """A mailing's state does not allow what the command wants."""
    is_so = "being cancelled" if state is MailingState.CANCELLING else state.value
    allowed = sorted(_TRANSITIONS[action].allowed)
    return command.error(
        f"Mailing {command.mailing_id} is {is_so}, so it cannot be {_DONE_TO_IT[action]}.{cause}",
        f"a mailing that is {' or '.join(reversed(allowed))}",
    )


@dataclass(frozen=True)
class _Version:
    row: EmailTemplateVersion
    prepared: Mapping[str, PreparedMessage]
    resets: tuple[bool, bool]


def _read_version(template: EmailTemplate, version_id: int | None) -> _Version | ServiceError:
    try:
        if version_id is None:
            row = get_current_version(template)
        else:
            row = db.session.get_one(EmailTemplateVersion, version_id)
        prepared = prepare_version(template, row)
        return _Version(row, prepared, resets_of(prepared))
    except ServiceError as error:
        return error


def _find_mailings(actor: Actor, lines: Sequence[Command | RefusedLine]) -> dict[int, Mailing]:
    wanted = {
        each.mailing_id
        for each in lines
        if isinstance(each, MailingStatus | PauseMailing | ResumeMailing | CancelMailing)
    }
    found: dict[int, Mailing] = {}
    for chunk in chunks(wanted):
        found.update(mailings.find_staff_mailings(actor, chunk))
    return found


def _names_in(lines: Sequence[Command | RefusedLine], attribute: str) -> list[Name]:
    """The names that lines have under `attribute`, as far as they have it."""
    return [name for each in lines for name in getattr(each, attribute, ())]


def _none_of(customers: Sequence[Name]) -> str:
    """How a sentence begins about none of these customers having something."""
    names = [name.text for name in customers]
    if len(names) == 1:
        return f"{names[0]} does not have"
    if len(names) == 2:
        return f"Neither {names[0]} nor {names[1]} has"
    if len(names) <= _NAMED_AT_MOST:
        return f"None of {', '.join(names[:-1])} and {names[-1]} has"
    return f"None of the {len(names):,} customers has"
