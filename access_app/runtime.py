"""Runtime settings: what operators tune while everything runs. Rows in the database; no restart.

Each app declares its own in a module `runtime_settings`. A process reads the rows with `refresh()`, once a tick or a
second; in between `value` costs a look into a dictionary, and never asks the database.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import structlog
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from access_app import encryption
from access_app.models import RuntimeSetting

log = structlog.get_logger(__name__)
Value = TypeVar("Value", int, float, str)
Text = str | Promise
LONGEST_TEXT = 1000
_declared: dict[str, Setting[Any]] = {}
_stored: dict[str, Any] = {}


class Invalid(ValueError):
    """The value is not one that the setting can have; the text says why."""


@dataclass(frozen=True, eq=False)
class Setting(Generic[Value]):
    """One runtime setting. Without a row it is what `default` says, which is mostly a variable of the environment.

    `least` and `most` bound a number. `fault` says what is wrong with a text, or None. `refusal` is asked once, before
    a value is written, why it cannot be used now; it may ask others and take its time. A setting with `show` is
    secret: it is kept encrypted, and shown through `show` alone.
    """

    name: str
    kind: type[Value]
    default: Callable[[], Value]
    label: Text
    help: Text
    least: float = -math.inf
    most: float = math.inf
    fault: Callable[[Value], str | None] = lambda _value: None
    refusal: Callable[[Value], str | None] = lambda _value: None
    show: Callable[[Value], Value] | None = None

    @property
    def value(self) -> Value:
        """What holds now in this process."""
        return cast(Value, _stored[self.name]) if self.name in _stored else self.default()

    @property
    def is_secret(self) -> bool:
        return self.show is not None

    def shown(self, value: Value) -> Value:
        """The value as people may see it."""
        return value if self.show is None else self.show(value)

    def checked(self, given: Any) -> Value:
        """The value that was given, of the right type. Raises Invalid."""
        kind: type[Any] = self.kind
        if kind is str:
            if not isinstance(given, str) or len(given) > LONGEST_TEXT or "\x00" in given:
                raise Invalid(_("Give a text of at most %(most)d characters.") % {"most": LONGEST_TEXT})
            value: Any = given.strip()
        else:
            if isinstance(given, bool) or not isinstance(given, int if kind is int else int | float):
                raise Invalid(_("Give a whole number.") if kind is int else _("Give a number."))
            value = kind(given)
            if not self.least <= value <= self.most:
                bounds = {"least": f"{self.least:g}", "most": f"{self.most:g}"}
                raise Invalid(_("Give a number from %(least)s to %(most)s.") % bounds)
        if (fault := self.fault(value)) is not None:
            raise Invalid(fault)
        return cast(Value, value)

    def typed(self, text: str) -> Any:
        """What somebody has typed as the value; checked it is not."""
        try:
            return self.kind(text)
        except ValueError:
            return text

    def packed(self, value: Value) -> Any:
        """The value as its row keeps it."""
        return encryption.encrypt(str(value)) if self.is_secret else value

    def unpacked(self, kept: Any) -> Value:
        """The value of a row. Raises Invalid or encryption.Unreadable."""
        return self.checked(encryption.decrypt(kept) if self.is_secret else kept)


def declare(setting: Setting[Value]) -> Setting[Value]:
    """Make the setting known to the doors."""
    _declared[setting.name] = setting
    return setting


def declared() -> dict[str, Setting[Any]]:
    """All settings by name, in the order in which people are shown them."""
    return dict(sorted(_declared.items()))


def refresh() -> None:
    """Read the rows: what they say holds in this process from now on. One statement.

    A row that makes no sense is left out, and its setting has its default: nothing stops for it.
    """
    global _stored  # noqa: PLW0603  (replaced as a whole: readers on other threads see the old or the new)
    _stored = dict(_sound(RuntimeSetting.objects.values_list("name", "value")))


def forget() -> None:
    """Let every setting have its default until the next `refresh`."""
    global _stored  # noqa: PLW0603  (as above)
    _stored = {}


def _sound(rows: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    for name, kept in rows:
        setting = _declared.get(name)
        if setting is None:
            continue
        try:
            yield name, setting.unpacked(kept)
        except ValueError as error:
            log.warning("runtime setting ignored", setting=name, error=str(error))
