"""The forms of signing in and of passwords."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import EqualTo, InputRequired

from blueprints.forms import at_most, one_line, strip
from services.passwords import MAX_LENGTH

_LOGIN = [InputRequired("Enter your login."), at_most(320), one_line]


class SignInForm(FlaskForm):  # type: ignore[misc]
    login = StringField("Login", filters=[strip], validators=_LOGIN)
    password = PasswordField(
        "Password", validators=[InputRequired("Enter your password."), at_most(MAX_LENGTH)]
    )
    next = HiddenField()


class ForgotPasswordForm(FlaskForm):  # type: ignore[misc]
    login = StringField("Login", filters=[strip], validators=_LOGIN)


class _CurrentPasswordForm(FlaskForm):  # type: ignore[misc]
    current = PasswordField(
        "Current password",
        validators=[InputRequired("Enter your current password."), at_most(MAX_LENGTH)],
    )


class ChoosePasswordForm(FlaskForm):  # type: ignore[misc]
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
