"""Service templates: which are offered to whom, and the options that a registrant chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models import RegistrationLink, ServiceOption, ServiceTemplateVersion
from services.actors import Actor


def list_offered(
    actor: Actor, invitation: RegistrationLink | None = None
) -> list[ServiceTemplateVersion]:
    """The published versions that an actor may pick, with template, options and bundles loaded.

    A prospect sees those for everybody and the one that his invitation presets; staff sees all,
    those limited to groups the templates of their groups.
    """
    raise NotImplementedError


def get_offered(
    actor: Actor, invitation: RegistrationLink | None, template_id: int
) -> ServiceTemplateVersion:
    """The published version of one of these. Raises NotFound."""
    raise NotImplementedError


def option_field(version: ServiceTemplateVersion, option: ServiceOption) -> str:
    """The form's name of an option, such as `option-3-lines`: each template has its own fields."""
    return f"option-{version.template_id}-{option.name}"


def check_option(version: ServiceTemplateVersion, option: ServiceOption, text: str) -> Any:
    """The chosen value: a choice's word, a count as int, yes or no as bool.

    Nothing typed is the default. Raises InvalidInput naming the option's field.
    """
    raise NotImplementedError


def check_options(version: ServiceTemplateVersion, typed: Mapping[str, str]) -> dict[str, Any]:
    """The chosen values by the option's name; `typed` is by field. Raises for the first fault."""
    return {
        option.name: check_option(version, option, typed.get(option_field(version, option), ""))
        for option in version.options
    }
