"""The items of a permission profile in words: what each of them lets a supervisor do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.actors import NEEDS, Permission


class ItemGroup(StrEnum):
    USERS = "Users"
    MAIL = "Mail"
    CUSTOMER = "Customer"


@dataclass(frozen=True, slots=True)
class Item:
    """A permission with its title and a sentence."""

    permission: Permission
    group: ItemGroup
    title: str
    sentence: str

    @property
    def needs(self) -> frozenset[Permission]:
        return NEEDS[self.permission]


ITEMS = (
    Item(
        Permission.USERS_READ,
        ItemGroup.USERS,
        "See users",
        "The list and the page of each user, with login, e-mail address and last sign-in.",
    ),
    Item(
        Permission.USERS_ADD,
        ItemGroup.USERS,
        "Add users",
        "One by one, with bundle and extension. Never administrators or supervisors.",
    ),
    Item(
        Permission.USERS_EDIT,
        ItemGroup.USERS,
        "Change users",
        "Names, e-mail address, extension, language and bundle of users; not those of "
        "administrators and supervisors, nor anybody's role.",
    ),
    Item(
        Permission.USERS_SUSPEND,
        ItemGroup.USERS,
        "Suspend and resume users",
        "Keep users out at once, and let them in again with the password that they had.",
    ),
    Item(
        Permission.USERS_DELETE,
        ItemGroup.USERS,
        "Delete users",
        "For good: names and addresses are wiped, and the login is never given again.",
    ),
    Item(
        Permission.USERS_IMPORT,
        ItemGroup.USERS,
        "Import users",
        "Add and change many users from a file.",
    ),
    Item(
        Permission.USERS_EXPORT,
        ItemGroup.USERS,
        "Export users",
        "Download the list of users, with their addresses, as a file.",
    ),
    Item(
        Permission.MAILINGS_READ,
        ItemGroup.MAIL,
        "See mailings",
        "What was sent to whom, what the mail server said, and which addresses get no more mail.",
    ),
    Item(
        Permission.MAILINGS_SEND,
        ItemGroup.MAIL,
        "Send mails",
        "Resend Welcome Mail, which resets passwords, and send the other e-mail templates. Mails "
        "to administrators go to the address that they have, which a supervisor cannot change.",
    ),
    Item(
        Permission.SUPPRESSIONS_EDIT,
        ItemGroup.MAIL,
        "Clear suppressed addresses",
        "Let mail go again to an address from which it came back.",
    ),
    Item(
        Permission.PARAMETERS_READ,
        ItemGroup.CUSTOMER,
        "See general parameters",
        "How the Smart Queues work, and the versions before.",
    ),
    Item(
        Permission.PARAMETERS_EDIT,
        ItemGroup.CUSTOMER,
        "Change general parameters",
        "Edit the draft and publish it.",
    ),
    Item(
        Permission.SETUP_EDIT,
        ItemGroup.CUSTOMER,
        "Change setup instructions",
        "The text and the files that go with welcome mails and stand on My services.",
    ),
    Item(
        Permission.AUDIT_READ,
        ItemGroup.CUSTOMER,
        "See the audit trail",
        "Who changed what, when, and from which network address.",
    ),
)
"""Every permission that a profile can have, in the order in which they are shown."""
