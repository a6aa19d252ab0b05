"""The admin page of runtime settings: the rows that differ from their defaults, written through the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_app import runtime, runtime_services
from access_app.actors import Actor
from access_app.admin import InstallationAdmin, actor_of
from access_app.errors import InvalidInput
from access_app.models import RuntimeSetting

if TYPE_CHECKING:
    AnyModelForm = forms.ModelForm[Any]
else:
    AnyModelForm = forms.ModelForm


class RuntimeSettingForm(AnyModelForm):
    """Which setting, and its value as text; valid means written, for the service is the last step of the check."""

    actor: Actor
    typed = forms.CharField(label=_("value"), widget=forms.TextInput(attrs={"size": 80}))

    class Meta:
        model = RuntimeSetting
        fields = ("name",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        row: RuntimeSetting = self.instance
        if row.pk:
            self.fields["typed"].initial = shown_value(row)
            self.fields["typed"].help_text = getattr(runtime.declared().get(row.name), "help", "")
        else:
            known = [(name, one.label) for name, one in runtime.declared().items()]
            self.fields["name"] = forms.ChoiceField(label=_("setting"), choices=known)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        name = self.instance.pk or given.get("name")
        if not self.errors and name:
            try:
                runtime_services.change(self.actor, {name: _value(name, given["typed"])}, now=timezone.now())
            except InvalidInput as error:
                self.add_error("typed", error.errors[name])
        return given

    def _get_validation_exclusions(self) -> set[str]:
        # The row is written by now; that its name exists is no fault.
        return {"name", "value", "updated_at", "updated_by"}


@admin.register(RuntimeSetting)
class RuntimeSettingAdmin(InstallationAdmin):
    """Deleting a row gives its setting the default back."""

    form = RuntimeSettingForm
    list_display = ("name", "shown", "updated_at", "updated_by")
    fields = ("name", "typed")

    @admin.display(description=_("value"))
    def shown(self, row: RuntimeSetting) -> str:
        return shown_value(row)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("name",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        form = super().get_form(request, obj, change=change, **options)
        return type(form.__name__, (form,), {"actor": actor_of(request)})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.refresh_from_db()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        runtime_services.change(actor_of(request), {obj.name: None}, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                self.delete_model(request, row)


def shown_value(row: RuntimeSetting) -> str:
    """The value of the row as people may see it; empty where it cannot be read any more."""
    setting = runtime.declared().get(row.name)
    try:
        return "" if setting is None else str(setting.shown(setting.unpacked(row.value)))
    except ValueError:
        return ""


def _value(name: str, typed: str) -> Any:
    setting = runtime.declared().get(name)
    return typed if setting is None else setting.typed(typed)
