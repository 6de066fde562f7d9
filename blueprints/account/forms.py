"""The forms of signing in and of passwords."""

from __future__ import annotations

from typing import Any

from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import EqualTo, InputRequired

from blueprints.forms import Form, at_most, one_line, strip
from services.passwords import MAX_LENGTH

_LOGIN = [InputRequired("Enter your login."), at_most(320), one_line]


class SignInForm(Form):
    login = StringField("Login", filters=[strip], validators=_LOGIN)
    password = PasswordField(
        "Password", validators=[InputRequired("Enter your password."), at_most(MAX_LENGTH)]
    )
    next = HiddenField()


class ForgotPasswordForm(Form):
    login = StringField("Login", filters=[strip], validators=_LOGIN)


class _CurrentPasswordForm(Form):
    current = PasswordField(
        "Current password",
        validators=[InputRequired("Enter your current password."), at_most(MAX_LENGTH)],
    )


class ChoosePasswordForm(Form):
    new = PasswordField(
        "New password", validators=[InputRequired("Enter a new password."), at_most(MAX_LENGTH)]
    )
    repeat = PasswordField(
        "New password again",
        validators=[
            InputRequired("Enter the new password again."),
            EqualTo("new", "The two new passwords differ. Enter the same one twice."),
        ],
    )


class ChangePasswordForm(_CurrentPasswordForm, ChoosePasswordForm):
    """In the order in which fields are made: the current password first."""


class ConfirmForm(Form):
    password = PasswordField(
        "Password", validators=[InputRequired("Enter your password."), at_most(MAX_LENGTH)]
    )
    next = HiddenField()


_LONGEST_CODE = 100


class SecondStepForm(Form):
    """A code or a passkey's answer, whichever way was chosen."""

    code = StringField("Code", filters=[strip], validators=[at_most(_LONGEST_CODE)])
    passkey = HiddenField()
    way = HiddenField()
    next = HiddenField()

    def validate(self, extra_validators: Any = None) -> bool:
        valid = bool(super().validate(extra_validators))
        if valid and self.way.data != "passkey" and not self.code.data:
            self.code.errors = ["Enter a code."]
            return False
        return valid


class PasskeyForm(Form):
    """A passkey in the place of login and password."""

    passkey = HiddenField(validators=[InputRequired()])
    next = HiddenField()


class AppCodeForm(Form):
    code = StringField(
        "Code from the app",
        filters=[strip],
        validators=[InputRequired("Enter the code that the app shows."), at_most(_LONGEST_CODE)],
    )


class NewPasskeyForm(Form):
    name = StringField("Name", filters=[strip], validators=[InputRequired("Give it a name.")])
    passkey = HiddenField()
