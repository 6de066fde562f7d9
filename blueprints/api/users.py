"""Users of a customer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from flask import Response
from pydantic import Field

from blueprints.api.fields import Given, Line, Listing, ListQuery, Shown, Utc
from blueprints.api.operations import Answer, Call, answer, answer_page, operation
from config import LANGUAGES
from extensions import queues
from models import ApiScope, Mailing, Role, User, UserStatus, WelcomeState
from services import user_accounts, user_states, users
from services.bundles import OwnBundles
from services.user_accounts import MOST_AT_ONCE, UserChanges
from services.user_rules import EXTENSION_LENGTH, NAME_LENGTH, NewUser
from services.users import UserFilter

_TAG = "Users"
_ALL = "/group/<groupno>/customer/<custno>/users"
_ONE = f"{_ALL}/<user_id>"
_ID = "$response.body#/id"
_LINKS = {
    name: {"operationId": name, "parameters": {"user_id": _ID}}
    for name in ("getUser", "updateUser", "suspendUser", "resumeUser")
}


class UserRole(StrEnum):
    """What a user can be made: an administrator manages the customer's other users, a supervisor
    does so as far as his permission profile goes."""

    USER = "user"
    SUPERVISOR = "supervisor"
    CUSTOMER_ADMIN = "customer_admin"


class ListedStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


class UserShown(Shown):
    """A person who signs in."""

    id: int
    login: str
    first_name: str
    last_name: str
    email: str = Field(description="Empty for who gets no mail.")
    extension: str
    language: str
    bundle: str = Field(description="The bundle's name; administrators may have none.")
    role: Role
    profile: str = Field(
        description="The name of a supervisor's permission profile, empty for everybody else."
    )
    status: UserStatus
    welcome_state: WelcomeState = Field(description="How the last welcome mail to him ended.")
    welcome_at: Utc | None
    last_sign_in_at: Utc | None
    version: int = Field(description="Also its ETag; for If-Match.")
    created_at: Utc


class AddedUserShown(UserShown):
    """A user who was added."""

    welcome_mailing: int | None = Field(
        description="The mailing of his welcome mail, when it was asked for."
    )


def _values(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "login": user.login,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "extension": user.extension,
        "language": user.language,
        "bundle": user.bundle.name if user.bundle is not None else "",
        "role": user.role,
        "profile": user.profile.name if user.profile is not None else "",
        "status": user.status,
        "welcome_state": user.welcome.state,
        "welcome_at": user.welcome.at,
        "last_sign_in_at": user.last_sign_in_at,
        "version": user.version,
        "created_at": user.created_at,
    }


def _answer_user(user: User) -> Response:
    return answer(UserShown(**_values(user)), version=user.version)


# --- Reading -------------------------------------------------------------------------------------


class UserQuery(ListQuery):
    q: Annotated[Line, Field(max_length=200)] = Field(
        default="",
        description="How the name, the surname, the login, the e-mail address or the extension "
        "begins.",
    )
    bundle: Annotated[Line, Field(max_length=64)] = Field(
        default="", description="The name of one of the customer's bundles."
    )
    status: ListedStatus | None = None
    role: UserRole | None = None


@operation(
    "GET",
    _ALL,
    id="listUsers",
    tag=_TAG,
    summary="List Users",
    scope=ApiScope.READ,
    query=UserQuery,
    answers={200: Answer("A page of users, by name.", Listing[UserShown])},
)
def list_users(call: Call) -> Response:
    """The customer's users, administrators among them, active and suspended."""
    asked = call.query
    page = users.list_users(
        call.actor,
        call.customer,
        UserFilter(
            search=asked.q,
            bundle_id=OwnBundles(call.customer).get(asked.bundle).id if asked.bundle else None,
            status=UserStatus(asked.status) if asked.status else None,
            role=Role(asked.role) if asked.role else None,
        ),
        size=asked.limit,
        cursor=asked.cursor,
    )
    items = [UserShown(**_values(user)) for user in page.rows]
    return answer_page(call, Listing[UserShown], page, items)


@operation(
    "GET",
    _ONE,
    id="getUser",
    tag=_TAG,
    summary="Get User",
    scope=ApiScope.READ,
    answers={200: Answer("The user.", UserShown, headers=("ETag",))},
)
def get_user(call: Call) -> Response:
    """One of the customer's users. A deleted one is not there any more."""
    return _answer_user(users.get_user_of(call.customer, call.ids["user_id"]))


# --- Adding --------------------------------------------------------------------------------------

FirstName = Annotated[Line, Field(max_length=NAME_LENGTH)]
LastName = Annotated[Line, Field(max_length=NAME_LENGTH)]
Email = Annotated[
    Line, Field(max_length=254, description="Where mails go. Empty for who gets none.")
]
Extension = Annotated[
    Line, Field(max_length=EXTENSION_LENGTH, description="The internal number, in digits.")
]
Language = Annotated[
    Line,
    Field(
        max_length=8,
        description=f"The language of his mails and pages: {', '.join(LANGUAGES)}.",
    ),
]
BundleName = Annotated[
    Line,
    Field(
        max_length=64,
        description="The name of one of the customer's bundles. Administrators can do without.",
    ),
]

ProfileName = Annotated[
    Line,
    Field(
        max_length=64,
        description="The name of one of the customer's permission profiles, for a supervisor; "
        "nobody else has one.",
    ),
]


class UserGiven(Given):
    """A user to add, by `login` or by `user_name`."""

    login: Annotated[Line, Field(max_length=254)] = Field(
        default="", description="The UPN. It ends with the customer's own UPN suffix."
    )
    user_name: Annotated[Line, Field(max_length=64)] = Field(
        default="",
        description="What stands before the @ of the login: letters from a to z, digits, dots and "
        "hyphens. The customer's UPN suffix is added.",
    )
    first_name: FirstName = ""
    last_name: LastName
    email: Email = ""
    extension: Extension = ""
    language: Language = Field(default="", description="The customer's own when it is left out.")
    bundle: BundleName = ""
    role: UserRole = UserRole.USER
    profile: ProfileName = ""

    def as_new(self) -> NewUser:
        return NewUser(
            login=self.login,
            user_name=self.user_name,
            first_name=self.first_name,
            last_name=self.last_name,
            email=self.email,
            extension=self.extension,
            language=self.language,
            bundle=self.bundle,
            role=Role(self.role),
            profile=self.profile,
        )


_WELCOME = (
    "Mail a welcome with the first passwords. The credential needs the scope `send` for it, too."
)


class UserToAdd(UserGiven):
    """A user to add, by `login` or by `user_name`."""

    send_welcome_email: bool = Field(default=False, description=_WELCOME)


@operation(
    "POST",
    _ALL,
    id="addUser",
    tag=_TAG,
    summary="Add User",
    scope=ApiScope.WRITE,
    body=UserToAdd,
    conflicts=True,
    answers={
        201: Answer(
            "The user was added.", AddedUserShown, headers=("ETag", "Location"), links=_LINKS
        )
    },
    example={
        "user_name": "ada.lovelace",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": "ada.lovelace@kenton-electronics.com",
        "extension": "2101",
        "bundle": "Entry3PhoneNextGenBundle",
        "send_welcome_email": True,
    },
)
def add_user(call: Call) -> Response:
    """Add a user. He has no password until a welcome mail brings him one. A login that is taken
    is refused in the same words whoever has it. Answers 409 when a welcome mail is asked for and
    none is among the customer's e-mail templates."""
    user, mailing = user_accounts.add_user(
        call.actor,
        call.customer,
        call.body.as_new(),
        send_welcome_mail=call.body.send_welcome_email,
    )
    _start(mailing)
    shown = AddedUserShown(**_values(user), welcome_mailing=mailing.id if mailing else None)
    location = call.url("getUser", user_id=user.id)
    return answer(shown, 201, version=user.version, location=location)


class UsersToAdd(Given):
    """Users to add, all of them or none."""

    users: list[UserGiven] = Field(min_length=1, max_length=MOST_AT_ONCE)
    send_welcome_email: bool = Field(default=False, description=_WELCOME)


class AddedUserRef(Shown):
    """One of the users who were added."""

    id: int
    login: str


class AddedUsersShown(Shown):
    """Who was added, in the order given."""

    added: list[AddedUserRef]
    welcome_mailing: int | None = Field(
        description="The mailing of their welcome mails, when they were asked for."
    )


@operation(
    "POST",
    f"{_ALL}/bulk",
    id="addUsers",
    tag=_TAG,
    summary="Add Users in Bulk",
    scope=ApiScope.WRITE,
    body=UsersToAdd,
    conflicts=True,
    answers={
        201: Answer(
            "The users were added.",
            AddedUsersShown,
            links={
                "getUser": {
                    "operationId": "getUser",
                    "parameters": {"user_id": "$response.body#/added/0/id"},
                }
            },
        )
    },
    example={
        "users": [
            {
                "user_name": "ada.lovelace",
                "first_name": "Ada",
                "last_name": "Lovelace",
                "email": "ada.lovelace@kenton-electronics.com",
                "bundle": "Entry3PhoneNextGenBundle",
            },
            {
                "login": "charles.babbage@kenton-electronics.com",
                "last_name": "Babbage",
                "role": "customer_admin",
            },
        ]
    },
)
def add_users(call: Call) -> Response:
    """Add up to 1,000 users, all of them or none. Where one cannot be added the answer names every
    fault of every row, as `users.17.email`; rows count from 0. Answers 409 as Add User does."""
    added = user_accounts.add_users(
        call.actor,
        call.customer,
        [each.as_new() for each in call.body.users],
        send_welcome_mail=call.body.send_welcome_email,
    )
    _start(added.mailing)
    return answer(
        AddedUsersShown(
            added=[AddedUserRef(id=each.id, login=each.login) for each in added.users],
            welcome_mailing=added.mailing.id if added.mailing else None,
        ),
        201,
    )


def _start(mailing: Mailing | None) -> None:
    if mailing is not None:
        queues.start_mailing(mailing.lane.value, mailing.id, mailing.queued)


# --- Changing ------------------------------------------------------------------------------------


def _unchanged() -> Any:
    """A field that may be left out; what stands for that is no default of the document."""

    def without_default(schema: dict[str, Any]) -> None:
        schema.pop("default", None)

    return Field(default=None, json_schema_extra=without_default)


class UserChanged(Given):
    """What is to change. A field that is left out stays as it is."""

    first_name: FirstName = _unchanged()
    last_name: LastName = _unchanged()
    email: Email = _unchanged()
    extension: Extension = _unchanged()
    language: Language = _unchanged()
    bundle: BundleName = _unchanged()
    role: UserRole = _unchanged()
    profile: ProfileName = _unchanged()

    def as_changes(self) -> UserChanges:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if "role" in given:
            given["role"] = Role(given["role"])
        return UserChanges(**given)


@operation(
    "PATCH",
    _ONE,
    id="updateUser",
    tag=_TAG,
    summary="Update User",
    scope=ApiScope.WRITE,
    body=UserChanged,
    updates=True,
    conflicts=True,
    answers={200: Answer("The user as he is now.", UserShown, headers=("ETag",))},
    example={"email": "ada@kenton-electronics.com", "bundle": "Stand4PhoneNextGenBundle"},
)
def update_user(call: Call) -> Response:
    """Change what is known of a user. His login stays: mails have told it to him. A mail that
    waits for an address that is changed is skipped. Answers 409 when the customer would be left
    without an active administrator."""
    user = user_accounts.update_user(
        call.actor,
        call.customer,
        call.ids["user_id"],
        call.body.as_changes(),
        versions=call.versions,
    )
    return _answer_user(user)


@operation(
    "POST",
    f"{_ONE}/suspend",
    id="suspendUser",
    tag=_TAG,
    summary="Suspend User",
    scope=ApiScope.WRITE,
    conflicts=True,
    answers={200: Answer("The user, suspended.", UserShown, headers=("ETag",))},
)
def suspend_user(call: Call) -> Response:
    """Keep a user out from this moment on, whatever version of him was read: his sessions end, and
    mails that wait for him are skipped. Does nothing to who is suspended already. Answers 409 for
    the customer's last active administrator."""
    user = user_states.suspend_user(call.actor, call.customer, call.ids["user_id"])
    return _answer_user(user)


@operation(
    "POST",
    f"{_ONE}/resume",
    id="resumeUser",
    tag=_TAG,
    summary="Resume User",
    scope=ApiScope.WRITE,
    answers={200: Answer("The user, active.", UserShown, headers=("ETag",))},
)
def resume_user(call: Call) -> Response:
    """Let a suspended user in again, with the password that he had. Does nothing to who is
    active."""
    user = user_states.resume_user(call.actor, call.customer, call.ids["user_id"])
    return _answer_user(user)
