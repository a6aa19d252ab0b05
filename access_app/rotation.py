"""Everything that is kept encrypted, under the newest key: in batches, while the system runs.

A row is written only where it still holds what was read, so that an edit meanwhile wins; neither the time nor the
version of a value changes. What is under the newest key already is not touched: repeated, it does nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from access_app import encryption, runtime
from access_app.models import RuntimeSetting, Secret

BATCH = 200
SECRETS, SETTINGS = "secrets", "settings"


@dataclass(slots=True)
class Report:
    """What was done: by kind how many values are under the newest key now that were not, and those that no key here
    can read, by name."""

    renewed: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)


def total() -> int:
    """How many values there are."""
    return Secret.objects.count() + len(_settings())


def rotate(report: Report) -> Iterator[int]:
    """Renew batch after batch, noting in `report` what came of it; gives the number of values looked at so far."""
    done = 0
    for done in _rotate_secrets(report):
        yield done
    for row in _settings():
        renewed = _renewed(row.value, f"{SETTINGS}/{row.name}", report)
        if renewed is not None:
            moved = RuntimeSetting.objects.filter(pk=row.pk, value=row.value).update(value=renewed)
            report.renewed[SETTINGS] += moved
        done += 1
        yield done


def values_by_key() -> dict[str, int]:
    """{key id: how many values are under it}; "" for values that do not say."""
    counted = Counter(Secret.objects.order_by().values_list("key_id", flat=True))
    counted.update(encryption.key_id_of(row.value) for row in _settings())
    return dict(counted)


def _rotate_secrets(report: Report) -> Iterator[int]:
    newest, last, done = encryption.newest_key_id(), 0, 0
    while rows := list(Secret.objects.filter(pk__gt=last).order_by("pk").select_related("project")[:BATCH]):
        with transaction.atomic():
            for secret in rows:
                if secret.key_id == newest:
                    continue
                renewed = _renewed(secret.sealed, f"{SECRETS}/{secret.project.name}/{secret.name}", report)
                if renewed is not None:
                    same = Secret.objects.filter(pk=secret.pk, sealed=secret.sealed)
                    report.renewed[SECRETS] += same.update(sealed=renewed, key_id=newest)
        last, done = rows[-1].pk, done + len(rows)
        yield done


def _renewed(kept: Any, name: str, report: Report) -> str | None:
    """The value under the newest key; None where it is there already, and where it cannot be read."""
    try:
        if encryption.key_id_of(kept) != encryption.newest_key_id():
            return encryption.renewed(kept)
        encryption.decrypt(kept)
    except encryption.Unreadable:
        report.unreadable.append(name)
    return None


def _settings() -> list[RuntimeSetting]:
    secret = [name for name, setting in runtime.declared().items() if setting.is_secret]
    return list(RuntimeSetting.objects.filter(name__in=secret).order_by("pk"))
