"""General parameters for tests, as a form sends them."""

from __future__ import annotations

from models import Customer, GeneralParametersVersion
from services import general_parameters
from services.actors import Actor
from services.parameter_rules import PARAMETERS, default_values, text_of

MAILBOX = "callbacks@kenton.example"


def typed(**changes: str) -> dict[str, str]:
    """The texts of a complete set of values that can be published."""
    texts = {name: text_of(PARAMETERS[name], value) for name, value in default_values().items()}
    return {**texts, "callback_folder_email": MAILBOX, **changes}


def publish_parameters(
    actor: Actor, customer: Customer, **changes: str
) -> GeneralParametersVersion | None:
    """Publish on top of the draft as it is, whoever changed it."""
    version = general_parameters.get_parameters(actor, customer).version
    return general_parameters.publish(actor, customer, typed(**changes), version=version)
