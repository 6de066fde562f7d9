"""The forms of API credentials: what one may do, its rotation and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wtforms import Field, HiddenField, RadioField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import AnyOf, InputRequired, Optional

from blueprints.forms import DayField, Form, IdsField, SeenForm, at_most, strip
from models import ApiCredential, ApiScope
from services.api_credential_rules import Terms, last_day_of, write_networks
from services.api_credentials import OVERLAPS, Kept
from services.errors import InvalidInput

OVERLAP_WORDS = dict(
    zip(
        OVERLAPS,
        (
            "Stops at once",
            "Works for another hour",
            "Works for another day",
            "Works for another week",
        ),
        strict=True,
    )
)
_OVERLAPS = {str(int(each.total_seconds())): each for each in OVERLAPS}
_LONGEST_NETWORKS = 10_000


class ScopesField(Field):  # type: ignore[misc]
    """Check boxes of scopes; the value is a frozenset of ApiScope."""

    def process_data(self, value: Any) -> None:
        self.data = frozenset(value or ())

    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        self.data = frozenset(each for each in ApiScope if each.value in valuelist)


class GroupsField(IdsField):
    def process_formdata(self, valuelist: Sequence[Any]) -> None:
        try:
            super().process_formdata(valuelist)
        except InvalidInput:
            self.data = []
            raise ValueError("A group that was chosen is none of the list.") from None


class _NamedForm(Form):
    name = StringField("Name", filters=[strip], validators=[InputRequired("Give it a name.")])


class TermsForm(Form):
    """What a credential may do. The rules are the service's."""

    description = StringField("Description", filters=[strip])
    scopes = ScopesField("It may")
    reach = RadioField(
        "Customers of",
        choices=[SelectChoice("all", "All groups"), SelectChoice("chosen", "These groups")],
        default="chosen",
        validate_choice=False,
        validators=[AnyOf(["chosen", "all"], message="Choose whose customers it works for.")],
    )
    groups = GroupsField("Groups")
    last_day = DayField("Last day", validators=[Optional()])
    networks = TextAreaField("Networks", validators=[at_most(_LONGEST_NETWORKS)])

    @property
    def terms(self) -> Terms:
        return Terms(
            description=self.description.data or "",
            scopes=self.scopes.data,
            all_groups=self.reach.data == "all",
            group_ids=frozenset(self.groups.data),
            networks=self.networks.data or "",
            last_day=self.last_day.data,
        )


class NewForm(TermsForm, _NamedForm):
    """`confirmation` is a random word of the form: sent twice, it makes one credential."""

    confirmation = HiddenField()


class EditForm(SeenForm, TermsForm):
    pass


class RotateForm(SeenForm):
    """`keep` is asked while the secret of an earlier rotation still works."""

    overlap = RadioField(
        "The old secret",
        choices=[SelectChoice(each, OVERLAP_WORDS[long]) for each, long in _OVERLAPS.items()],
        validate_choice=False,
        validators=[AnyOf(list(_OVERLAPS), message="Choose how long the old secret works.")],
    )
    keep = RadioField(
        "Of the two that work now, keep",
        choices=[
            SelectChoice(Kept.CURRENT.value, "The newest one"),
            SelectChoice(Kept.PREVIOUS.value, "The one before it"),
        ],
        validate_choice=False,
    )

    @property
    def chosen(self) -> dict[str, Any]:
        """The arguments of `rotate_secret`."""
        words = {each.value: each for each in Kept}
        return {"overlap": _OVERLAPS[self.overlap.data], "keep": words.get(self.keep.data or "")}


class RevokeForm(Form):
    name = StringField("Its name", filters=[strip], validators=[InputRequired("Type its name.")])


def fill_in(credential: ApiCredential) -> dict[str, Any]:
    """The data of an EditForm for a credential as it is."""
    return {
        "version": credential.version,
        "description": credential.description,
        "scopes": credential.scopes,
        "reach": "all" if credential.all_groups else "chosen",
        "groups": [each.id for each in credential.groups],
        "last_day": credential.expires_at and last_day_of(credential.expires_at),
        "networks": "\n".join(write_networks(credential.networks)),
    }
