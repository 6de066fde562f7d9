"""What the Users tab is sent: ticked boxes and where the reader goes next; accounts; changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wtforms import BooleanField, RadioField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import AnyOf, InputRequired, Length

from blueprints.forms import Form, IdsField, SeenForm, strip
from blueprints.users.lists import ROLE_WORDS
from config import LANGUAGES
from models import Bundle, PermissionProfile, Role, User
from services.errors import InvalidInput, InvalidInputs, ServiceError
from services.user_accounts import UserChanges
from services.user_rules import NewUser, by_login

_AS_PROFILE = "profile-"
NOW, LATER = "now", "later"
_SHOWN = 64


class SelectionForm(Form):
    """The form around the list. `at` is the list's query, `go` the query that comes next.

    `go` is "search" when the reader searches; what for is in `q`.
    """

    selected = IdsField()
    shown = IdsField()
    at = StringField(validators=[Length(max=2000)])
    go = StringField(validators=[Length(max=2000)])
    q = StringField(validators=[Length(max=200)])
    action = StringField(validators=[Length(max=40)])


class _AccountForm(Form):
    """What is known of a user. The rules are the service's.

    `role` is a role, or a permission profile, which makes somebody a supervisor; it is left out for
    who cannot give any.
    """

    first_name = StringField("First name", filters=[strip])
    last_name = StringField(
        "Last name", filters=[strip], validators=[InputRequired("Give the last name.")]
    )
    email = StringField("E-mail address", filters=[strip])
    extension = StringField("Extension", filters=[strip])
    bundle = SelectField("Bundle", validate_choice=False)
    language = SelectField("Language", validate_choice=False)
    role = SelectField("Role", validate_choice=False)

    def offer(
        self,
        bundles: Sequence[Bundle],
        profiles: Sequence[PermissionProfile],
        *,
        gives_roles: bool,
    ) -> None:
        """Give the selects their choices."""
        self.language.choices = _choices(LANGUAGES, self.language.data)
        names = {bundle.name: bundle.name for bundle in bundles}
        self.bundle.choices = _choices({"": "None", **names}, self.bundle.data)
        supervisors = {f"{_AS_PROFILE}{each.id}": f"Supervisor: {each.name}" for each in profiles}
        roles = {
            Role.USER.value: ROLE_WORDS[Role.USER],
            **supervisors,
            Role.CUSTOMER_ADMIN.value: ROLE_WORDS[Role.CUSTOMER_ADMIN],
        }
        self.role.choices = _choices(roles, self.role.data)
        self._profiles = {f"{_AS_PROFILE}{each.id}": each.name for each in profiles}
        if not gives_roles:
            del self.role

    @property
    def known(self) -> dict[str, Any]:
        """What is typed, as the service calls it. Raises InvalidInput for a role that is none."""
        values: dict[str, Any] = {
            name: self[name].data or ""
            for name in ("first_name", "last_name", "email", "extension", "bundle", "language")
        }
        if "role" in self:
            values |= self._role()
        return values

    def _role(self) -> dict[str, Any]:
        chosen = self.role.data or ""
        if chosen in self._profiles:
            return {"role": Role.SUPERVISOR, "profile": self._profiles[chosen]}
        for role in (Role.USER, Role.CUSTOMER_ADMIN):
            if chosen == role.value:
                return {"role": role, "profile": ""}
        raise InvalidInput("role", "Choose one of the roles. The profile may be gone meanwhile.")

    def at_its_fields(self, error: ServiceError) -> ServiceError:
        """The refusal of a service with its faults at the fields of this form."""
        if isinstance(error, InvalidInput):
            return InvalidInput(self._field_of(error.field), error.message)
        if isinstance(error, InvalidInputs):
            return InvalidInputs(
                [(self._field_of(field), message) for field, message in error.faults]
            )
        return error

    def _field_of(self, name: str) -> str:
        return {"profile": "role", "login": "user_name"}.get(name, name)


def _choices(words: Mapping[str, str], chosen: str | None) -> list[SelectChoice]:
    """What a select offers, and the value that is none of it, so that it shows."""
    offered = [SelectChoice(value, word) for value, word in words.items()]
    if chosen and chosen not in words:
        offered.append(SelectChoice(chosen, f"{chosen[:_SHOWN]} (not offered)"))
    return offered


class NewUserForm(_AccountForm):
    """A user to add; his welcome mail goes at once, or whenever it is sent from the list."""

    user_name = StringField(
        "User name",
        filters=[strip],
        validators=[InputRequired("Give the user name: what stands before the @ of the login.")],
    )
    welcome = RadioField(
        "Welcome mail",
        choices=[
            SelectChoice(NOW, "Send it now"),
            SelectChoice(LATER, "Send it later, from the list of users"),
        ],
        default=NOW,
        validate_choice=False,
        validators=[AnyOf([NOW, LATER], message="Choose when the welcome mail is sent.")],
    )
    again = BooleanField()

    @property
    def new_user(self) -> NewUser:
        named = by_login(self.user_name.data or "")
        return NewUser(login=named.login, user_name=named.user_name, **self.known)

    @property
    def sends_welcome(self) -> bool:
        return "welcome" in self and self.welcome.data == NOW


class EditUserForm(SeenForm, _AccountForm):
    @property
    def changes(self) -> UserChanges:
        return UserChanges(**self.known)


def label_of(field: Any, value: str) -> str:
    """The word of a value, if the field is a select that offers it."""
    choices = getattr(field, "choices", None) or []
    return next((str(each.label) for each in choices if each.value == value), value)


def copy_of(user: User) -> dict[str, Any]:
    """What a new user has of one who is there: everything but who he is."""
    return {
        "bundle": user.bundle.name if user.bundle is not None else "",
        "language": user.language,
        "role": f"{_AS_PROFILE}{user.profile_id}" if user.profile_id else user.role.value,
    }


def fill_in(user: User) -> dict[str, Any]:
    """The data of an EditUserForm for a user as he is."""
    return {
        "version": user.version,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "extension": user.extension,
        **copy_of(user),
    }


class ChangeForm(Form):
    """What a page that asked sends: the users as they were shown.

    `typed` is their number, where a change of many cannot be taken back.
    """

    users = IdsField()
    bundle = SelectField("Bundle", validate_choice=False)
    typed = StringField("How many users are deleted", filters=[strip])

    def offer(self, bundles: Sequence[Bundle]) -> None:
        names = {each.name: each.name for each in bundles}
        self.bundle.choices = _choices({"": "Choose one", **names}, self.bundle.data)
