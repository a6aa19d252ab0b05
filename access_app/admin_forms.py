"""Forms of the admin pages: each writes through the service as the last step of its validation.

So what a service refuses stands at its field like any other mistake, and a valid form has been written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db.models import Model
from django.utils.translation import gettext as _

from access_app import approvals
from access_app.actors import Actor
from access_app.approval_models import ApprovalRequest
from access_app.errors import InvalidInput, SchedulerError
from access_app.second_person import ApprovalRequired

if TYPE_CHECKING:
    AnyModelForm = forms.ModelForm[Any]
else:
    AnyModelForm = forms.ModelForm


def asked_text(request: ApprovalRequest) -> str:
    """That something waits for a second person, for a reader."""
    return _("This needs a second person, who is asked: request for approval #%(id)d.") % {"id": request.pk}


class ServiceForm(AnyModelForm):
    """A form for the person `actor`; once it is valid, `written` is the row as the service left it."""

    actor: Actor
    written: Model

    def write(self) -> Model:
        """Create the row, or change the fields that were changed. Raises SchedulerError."""
        raise NotImplementedError

    def changes(self) -> dict[str, Any]:
        """What was typed, of a new row; what was changed, of one that exists: other edits meanwhile stay."""
        given = self.cleaned_data
        return dict(given) if self.instance.pk is None else {name: given[name] for name in self.changed_data}

    def _post_clean(self) -> None:
        # In place of Django's last step, which checks constraints, too: the service does, and names the field.
        exclude = self._get_validation_exclusions()  # type: ignore[attr-defined]
        try:
            self.instance = forms.models.construct_instance(self, self.instance, self._meta.fields, self._meta.exclude)
            self.instance.clean_fields(exclude=exclude)
        except ValidationError as error:
            self.add_error(None, error)
        if self.errors:
            return
        try:
            self.written = self.write()
        except InvalidInput as error:
            for name, texts in error.errors.items():
                self.add_error(name if name in self.fields else NON_FIELD_ERRORS, texts)
        except ApprovalRequired as error:
            # The transaction of the page goes on: what was asked for is kept with it.
            self.add_error(None, asked_text(approvals.ask(error)))
        except SchedulerError as error:
            path = error.details.get("path")
            self.add_error(None, f"{error.message} ({' → '.join(path)})" if path else error.message)
