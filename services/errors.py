"""What a service refuses, in terms that pages, the API and commands can all present."""

from __future__ import annotations

from collections.abc import Sequence


class ServiceError(Exception):
    """A refusal with a sentence for the person who asked."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class NotFound(ServiceError):
    """The object does not exist within the actor's scope."""


class Forbidden(ServiceError):
    """The actor's role lacks the action."""


class InvalidInput(ServiceError):
    """A field breaks a rule; `field` names it as the form does."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


class InvalidInputs(ServiceError):
    """Several fields break rules; `faults` are pairs of a field and its message."""

    def __init__(self, faults: Sequence[tuple[str, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__(" ".join(message for _, message in self.faults))


class Conflict(ServiceError):
    """The object's state does not allow the action (any more)."""


class Stale(Conflict):
    """The object was changed since the caller read it."""


class Throttled(ServiceError):
    """Too many attempts; `retry_after` is in whole seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(message)
