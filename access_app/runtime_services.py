"""Runtime settings as administrators of the installation see and change them, each change in the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from access_app import audit, runtime
from access_app.actors import Actor
from access_app.errors import InvalidInput
from access_app.models import RuntimeSetting
from access_app.roles import Verb, require_everywhere
from access_app.runtime import Setting


@dataclass(frozen=True, slots=True)
class Shown:
    """A setting with its values as people may see them; `row` is None while it has its default."""

    setting: Setting[Any]
    value: Any
    default: Any
    row: RuntimeSetting | None


def settings_visible_to(actor: Actor) -> list[Shown]:
    """Every setting by name. Raises PermissionRefused for everybody but an administrator of the installation."""
    require_everywhere(actor, Verb.VIEW)
    runtime.refresh()
    rows = {row.name: row for row in RuntimeSetting.objects.all()}
    return [
        Shown(setting, setting.shown(setting.value), setting.shown(setting.default()), rows.get(name))
        for name, setting in runtime.declared().items()
    ]


def change(actor: Actor, given: Mapping[str, Any], *, now: datetime) -> None:
    """Set the settings by name; None gives one its default back. All or none of them.

    Dispatchers and workers follow within a tick. A secret given as it is shown stays what it is. A value that cannot
    be used now, such as a broker that does not answer, is refused, and what held goes on.
    Raises PermissionRefused, or InvalidInput at the names that are wrong.
    """
    require_everywhere(actor, Verb.MANAGE)
    values = _checked(given)
    with transaction.atomic():
        kept = {row.name: row for row in RuntimeSetting.objects.select_for_update().filter(name__in=values)}
        for name, value in values.items():
            _write(actor, runtime.declared()[name], kept.get(name), value, now)
    runtime.refresh()


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    known = runtime.declared()
    runtime.refresh()
    for name, value in given.items():
        setting = known.get(name)
        if setting is None:
            faults[name] = _("Unknown field.")
        elif value is None:
            values[name] = None
        elif not (setting.is_secret and value == setting.shown(setting.value)):
            try:
                values[name] = setting.checked(value)
            except runtime.Invalid as error:
                faults[name] = str(error)
    if not faults:
        given_anew = {name: value for name, value in values.items() if value is not None}
        refusals = {name: known[name].refusal(value) for name, value in given_anew.items()}
        faults = {name: refusal for name, refusal in refusals.items() if refusal is not None}
    if faults:
        raise InvalidInput(**faults)
    return values


def _write(actor: Actor, setting: Setting[Any], row: RuntimeSetting | None, value: Any, now: datetime) -> None:
    before = _told(setting, row)
    if value is None:
        if row is None:
            return
        audit.append(actor, "reset", row, now=now, before=before)
        row.delete()
        return
    kept = setting.packed(value)
    if row is None:
        row = RuntimeSetting.objects.create(name=setting.name, value=kept, updated_at=now, updated_by=actor.name[:200])
    else:
        row.value, row.updated_at, row.updated_by = kept, now, actor.name[:200]
        row.save(update_fields=["value", "updated_at", "updated_by"])
    audit.append(actor, "update", row, now=now, before=before, after={"value": setting.shown(value)})


def _told(setting: Setting[Any], row: RuntimeSetting | None) -> dict[str, Any] | None:
    """The value of the row for the audit trail."""
    if row is None:
        return None
    try:
        return {"value": setting.shown(setting.unpacked(row.value))}
    except ValueError:
        return {"value": None}
