"""The error family. Each class has a stable code and HTTP status; its docstring is the default message."""

from __future__ import annotations

from typing import Any


class SchedulerError(Exception):
    """The request could not be carried out."""

    code = "error"
    status = 400

    def __init__(self, message: str | None = None, /, **details: Any) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.details = details
        super().__init__(self.message)


class InvalidInput(SchedulerError):
    """Some fields are not valid; see `errors`."""

    code = "invalid"

    def __init__(self, /, **errors: str | list[str]) -> None:
        self.errors = {name: [text] if isinstance(text, str) else list(text) for name, text in errors.items()}
        super().__init__(errors=self.errors)

    def __str__(self) -> str:
        return "; ".join(f"{name}: {' '.join(texts)}" for name, texts in self.errors.items())


class NotFound(SchedulerError):
    """There is no such object, or you may not see it."""

    code = "not_found"
    status = 404


class SignInRefused(SchedulerError):
    """The user name or the password is not right."""

    code = "sign_in_refused"
    status = 401


class TooMany(SchedulerError):
    """That was too often; wait for the seconds that Retry-After says."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, *, code: str, retry_after: int) -> None:
        super().__init__(message)
        self.code, self.retry_after = code, retry_after


class PermissionRefused(SchedulerError):
    """Your role does not allow this; ask an administrator of the installation for a higher one."""

    code = "permission_denied"
    status = 403


class WrongState(SchedulerError):
    """The object is in a state that does not allow this."""

    code = "wrong_state"
    status = 409


class LastAdministrator(SchedulerError):
    """Nobody would be left to administer the installation; make somebody else an administrator first."""

    code = "last_administrator"
    status = 409


class StaleEdit(SchedulerError):
    """The object was changed since you read it; read it again and repeat your edit."""

    code = "stale_edit"
    status = 412
