"""The language of the maintenance command window: commands, their grammar, their errors.

One line is one command: `$$RESEND WELCOME EMAIL$$ <BN1>;<BN2>|<CUSTWEBID1>;<CUSTWEBID2>`.
Everything here is pure: whether a bundle or customer exists is for others to check, and the
parsed names and commands remember their places so that those errors can point at them, too.

`command_spelling` knows characters and names, `command_errors` errors and their places,
`command_words` the commands, and `command_parser` reads them; others take them from here.
"""

from services.command_errors import (
    MAX_ERRORS,
    CommandError,
    CommandErrors,
    Excerpt,
    Place,
    excerpt,
    limit_errors,
)
from services.command_parser import (
    MAX_COMMANDS,
    MAX_LINE,
    Reading,
    RefusedLine,
    parse,
    read,
)
from services.command_spelling import MAX_NAME, can_be_written, split_lines, suggest
from services.command_words import (
    COMMANDS,
    MAX_MAILING_ID,
    CancelMailing,
    Command,
    CommandHelp,
    Help,
    ListBundles,
    ListCustomers,
    MailingStatus,
    Name,
    PauseMailing,
    ResendWelcomeEmail,
    ResumeMailing,
    SendEmail,
    format_command,
)

__all__ = [
    "COMMANDS",
    "MAX_COMMANDS",
    "MAX_ERRORS",
    "MAX_LINE",
    "MAX_MAILING_ID",
    "MAX_NAME",
    "CancelMailing",
    "Command",
    "CommandError",
    "CommandErrors",
    "CommandHelp",
    "Excerpt",
    "Help",
    "ListBundles",
    "ListCustomers",
    "MailingStatus",
    "Name",
    "PauseMailing",
    "Place",
    "Reading",
    "RefusedLine",
    "ResendWelcomeEmail",
    "ResumeMailing",
    "SendEmail",
    "can_be_written",
    "excerpt",
    "format_command",
    "limit_errors",
    "parse",
    "read",
    "split_lines",
    "suggest",
]
