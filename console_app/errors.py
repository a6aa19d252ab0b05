"""The errors of services as sentences in the reader's language."""

from __future__ import annotations

from django.forms import BaseForm
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from tasks_app.errors import DependencyCycle, InvalidInput, SchedulerError

# The default messages of the error classes are English docstrings; here they are texts to translate.
DEFAULTS: dict[str, Promise] = {
    "error": _("The request could not be carried out."),
    "permission_denied": _("Your role does not allow this; ask an administrator of the installation for a higher one."),
    "wrong_state": _("The object is in a state that does not allow this."),
    "stale_edit": _("The object was changed since you read it; read it again and repeat your edit."),
    "self_approval": _("Nobody decides what they asked for themselves, by whatever key or group; ask a second person."),
    "approval_outdated": _(
        "What this is about was changed since it was asked for; look at it as it is now, and ask again."
    ),
    "last_administrator": _(
        "Nobody would be left to administer the installation; make somebody else an administrator first."
    ),
    "batch_too_large": _("The batch holds too many items; send it in several parts."),
}


def sentence(error: SchedulerError) -> str:
    """What went wrong, for a reader."""
    if isinstance(error, InvalidInput):
        return " ".join(text for texts in error.errors.values() for text in texts)
    if isinstance(error, DependencyCycle):
        path = " → ".join(error.details.get("path", []))
        return str(_("These tasks would wait for each other: %(path)s.") % {"path": path})
    is_default = error.message == type(error)().message
    return str(DEFAULTS[error.code]) if is_default and error.code in DEFAULTS else error.message


def put_on(form: BaseForm, error: InvalidInput) -> None:
    """Show each text of the error at its field; what the form has no field for stands above it."""
    for name, texts in error.errors.items():
        field = name if name in form.fields else None
        for text in texts:
            form.add_error(field, text if field else f"{name}: {text}")
