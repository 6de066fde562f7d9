"""The forms of staff: what is known of a member, and which roles need a second factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wtforms import Field, HiddenField, RadioField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import AnyOf, InputRequired

from blueprints.api_access.forms import GroupsField
from blueprints.forms import Form, SeenForm, at_most, one_line, strip
from blueprints.staff.lists import ROLE_WORDS
from config import LANGUAGES
from models import Role
from services.sign_in_policies import ROLES
from services.staff_accounts import Member, Particulars

_MORE_THAN_ANY = 1000
_CHECKS = [at_most(_MORE_THAN_ANY), one_line]
_ROLES = {each.value: each for each in ROLE_WORDS}


class ParticularsForm(Form):
    """Who somebody is and what he may. The rules are the service's."""

    first_name = StringField(
        "First name", filters=[strip], validators=[InputRequired("Enter the first name."), *_CHECKS]
    )
    last_name = StringField(
        "Last name", filters=[strip], validators=[InputRequired("Enter the last name."), *_CHECKS]
    )
    email = StringField(
        "E-mail address",
        filters=[strip],
        validators=[InputRequired("Enter the e-mail address."), *_CHECKS],
    )
    language = SelectField(
        "Language of mails",
        choices=[SelectChoice(code, name) for code, name in LANGUAGES.items()],
        default="en",
        validate_choice=False,
    )
    role = RadioField(
        "Role",
        choices=[SelectChoice(each.value, word) for each, word in ROLE_WORDS.items()],
        default=Role.OPERATOR.value,
        validate_choice=False,
        validators=[AnyOf(list(_ROLES), message="Choose one of the roles.")],
    )
    reach = RadioField(
        "Customers of",
        choices=[SelectChoice("all", "All groups"), SelectChoice("chosen", "These groups")],
        default="all",
        validate_choice=False,
        validators=[AnyOf(["chosen", "all"], message="Choose whose customers it is about.")],
    )
    groups = GroupsField("Groups")

    @property
    def particulars(self) -> Particulars:
        return Particulars(
            first_name=self.first_name.data or "",
            last_name=self.last_name.data or "",
            email=self.email.data or "",
            language=self.language.data or "",
            role=_ROLES[self.role.data],
            all_groups=self.reach.data == "all",
            group_ids=frozenset(self.groups.data),
        )


class InviteForm(ParticularsForm):
    login = StringField("Login", filters=[strip], validators=_CHECKS)


class EditForm(SeenForm, ParticularsForm):
    pass


class DeleteForm(SeenForm):
    login = StringField(
        "The login", filters=[strip], validators=[InputRequired("Type the login."), *_CHECKS]
    )


class RolesField(Field):  # type: ignore[misc]
    """Check boxes of roles; the value is a frozenset of Role."""

    def process_data(self, value: Any) -> None:
        self.data = frozenset(value or ())

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        self.data = frozenset(each for each in ROLES if each.value in valuelist)


class PolicyForm(Form):
    """`seen` are the roles that needed one when the page was opened, with commas between."""

    roles = RolesField("A second factor is required of")
    seen = HiddenField()

    @property
    def seen_roles(self) -> frozenset[Role]:
        words = (self.seen.data or "").split(",")
        return frozenset(each for each in ROLES if each.value in words)


def fill_in(member: Member) -> dict[str, Any]:
    """The data of an EditForm for a member as he is."""
    user = member.user
    return {
        "version": user.version,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "language": user.language,
        "role": user.role.value,
        "reach": "all" if member.reaches_all else "chosen",
        "groups": [each.id for each in member.groups],
    }
