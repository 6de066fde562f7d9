"""The commands: what each of them says, how people learn it, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.command_errors import CommandError, Place
from services.command_spelling import can_be_written

MAX_MAILING_ID = 2**63 - 1


@dataclass(frozen=True)
class Name:
    """A bundle, customer or template as written, with its place, which equality ignores.

    Raises ValueError for a text that the language cannot write; see `can_be_written`.
    """

    text: str
    line: int = field(default=1, compare=False)
    column: int = field(default=1, compare=False)

    def __post_init__(self) -> None:
        if not can_be_written(self.text):
            raise ValueError("this name cannot be written in a command")

    def __str__(self) -> str:
        return self.text

    def error(self, message: str, expected: str) -> CommandError:
        """Return an error that points at this name."""
        return CommandError(self.line, self.column, len(self.text), message, expected)


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """`place` is what an error of the command as a whole points at; equality ignores it."""

    place: Place = field(default=Place(1, 1, 1), compare=False, repr=False)

    def error(self, message: str, expected: str) -> CommandError:
        """Return an error that points at the command's word, or at its mailing's number."""
        at = self.place
        return CommandError(at.line, at.column, at.length, message, expected)


@dataclass(frozen=True)
class ResendWelcomeEmail(_Placed):
    """Reset passwords and send the welcome mail to these customers' users of these bundles."""

    bundles: tuple[Name, ...]
    customers: tuple[Name, ...]

    def __post_init__(self) -> None:
        _check_set(self.bundles)
        _check_set(self.customers)


@dataclass(frozen=True)
class SendEmail(_Placed):
    """Send a template to these customers' users of these bundles."""

    template: Name
    bundles: tuple[Name, ...]
    customers: tuple[Name, ...]

    def __post_init__(self) -> None:
        _check_set(self.bundles)
        _check_set(self.customers)


@dataclass(frozen=True)
class ListBundles(_Placed):
    """List the bundles of these customers; of all in the actor's scope when there are none."""

    customers: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        _check_set(self.customers, optional=True)


@dataclass(frozen=True)
class ListCustomers(_Placed):
    """List the customers that have these bundles; all in the actor's scope when there are none."""

    bundles: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        _check_set(self.bundles, optional=True)


@dataclass(frozen=True)
class _OfMailing(_Placed):
    mailing_id: int

    def __post_init__(self) -> None:
        if not 1 <= self.mailing_id <= MAX_MAILING_ID:
            raise ValueError("a mailing's number is from 1 to 2^63 - 1")


@dataclass(frozen=True)
class MailingStatus(_OfMailing):
    """Show how far a mailing is."""


@dataclass(frozen=True)
class PauseMailing(_OfMailing):
    """Hold a mailing."""


@dataclass(frozen=True)
class ResumeMailing(_OfMailing):
    """Let a mailing go on."""


@dataclass(frozen=True)
class CancelMailing(_OfMailing):
    """End a mailing."""


@dataclass(frozen=True)
class Help(_Placed):
    """List the commands."""


Command = (
    ResendWelcomeEmail
    | SendEmail
    | ListBundles
    | ListCustomers
    | MailingStatus
    | PauseMailing
    | ResumeMailing
    | CancelMailing
    | Help
)


@dataclass(frozen=True)
class CommandHelp:
    """One command as people learn it: the example can be pasted."""

    word: str
    usage: str
    example: str
    summary: str


COMMANDS: tuple[CommandHelp, ...] = (
    CommandHelp(
        "RESEND WELCOME EMAIL",
        "$$RESEND WELCOME EMAIL$$ <BN1>;<BN2>|<CUSTWEBID1>;<CUSTWEBID2>",
        "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ001;CQ002;CQ003",
        "Resets passwords and sends the welcome e-mail to the users of these customers who have "
        "one of these bundles.",
    ),
    CommandHelp(
        "SEND EMAIL",
        "$$SEND EMAIL$$ <TEMPLATE>|<BN1>;<BN2>|<CUSTWEBID1>;<CUSTWEBID2>",
        "$$SEND EMAIL$$ Voicemail update|Entry3PhoneNextGenBundle|CQ001",
        "Sends an e-mail template to the users of these customers who have one of these bundles.",
    ),
    CommandHelp(
        "LIST BUNDLES",
        "$$LIST BUNDLES$$ <CUSTWEBID1>;<CUSTWEBID2>",
        "$$LIST BUNDLES$$ CQ001;CQ002",
        "Lists the bundles of these customers; without customers, of all you may see.",
    ),
    CommandHelp(
        "LIST CUSTOMERS",
        "$$LIST CUSTOMERS$$ <BN1>;<BN2>",
        "$$LIST CUSTOMERS$$ Entry3PhoneNextGenBundle",
        "Lists the customers that have one of these bundles; without bundles, all you may see.",
    ),
    CommandHelp(
        "MAILING STATUS",
        "$$MAILING STATUS$$ <ID>",
        "$$MAILING STATUS$$ 17",
        "Shows how far a mailing is.",
    ),
    CommandHelp(
        "PAUSE MAILING",
        "$$PAUSE MAILING$$ <ID>",
        "$$PAUSE MAILING$$ 17",
        "Holds a mailing; mails that are on their way still arrive.",
    ),
    CommandHelp(
        "RESUME MAILING",
        "$$RESUME MAILING$$ <ID>",
        "$$RESUME MAILING$$ 17",
        "Lets a paused mailing go on.",
    ),
    CommandHelp(
        "CANCEL MAILING",
        "$$CANCEL MAILING$$ <ID>",
        "$$CANCEL MAILING$$ 17",
        "Ends a mailing for good; mails that were sent stay sent.",
    ),
    CommandHelp("HELP", "$$HELP$$", "$$HELP$$", "Lists the commands."),
)
"""Every command, in the order in which people see them."""


def format_command(command: Command) -> str:
    """Return the command as one canonical line, which parses to the same command."""
    match command:
        case ResendWelcomeEmail():
            return f"$$RESEND WELCOME EMAIL$$ {_set(command.bundles)}|{_set(command.customers)}"
        case SendEmail():
            sets = (_set((command.template,)), _set(command.bundles), _set(command.customers))
            return f"$$SEND EMAIL$$ {'|'.join(sets)}"
        case ListBundles():
            return f"$$LIST BUNDLES$$ {_set(command.customers)}".rstrip(" ")
        case ListCustomers():
            return f"$$LIST CUSTOMERS$$ {_set(command.bundles)}".rstrip(" ")
        case MailingStatus():
            return f"$$MAILING STATUS$$ {command.mailing_id}"
        case PauseMailing():
            return f"$$PAUSE MAILING$$ {command.mailing_id}"
        case ResumeMailing():
            return f"$$RESUME MAILING$$ {command.mailing_id}"
        case CancelMailing():
            return f"$$CANCEL MAILING$$ {command.mailing_id}"
        case Help():
            return "$$HELP$$"


def _check_set(names: tuple[Name, ...], *, optional: bool = False) -> None:
    if not (names or optional):
        raise ValueError("a set has at least one name")
    if len(set(names)) < len(names):
        raise ValueError("a set has each name once")


def _set(names: tuple[Name, ...]) -> str:
    return ";".join(name.text for name in names)
