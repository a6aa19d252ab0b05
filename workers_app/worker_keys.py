"""From names to the pools of a worker key; the keys themselves are those of access_app."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from tasks_app.errors import InvalidInput
from tasks_app.models import Pool


def pools_named(names: Sequence[str]) -> list[Pool]:
    """The pools of these names. Raises InvalidInput at `pools` for one that is not there."""
    found = {pool.name: pool for pool in Pool.objects.filter(name__in=names)}
    for name in names:
        if name not in found:
            raise InvalidInput(pools=_("There is no pool %(name)s.") % {"name": name})
    return list(found.values())
