"""Reads user and system crontabs as Debian's cron does. Pure: text in, entries and problems out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from django.utils.translation import gettext as _

from tasks_app import cron
from tasks_app.texts import clipped

BLANK = " \t"
_FIELD = r"[^ \t]+"
_TIMES = re.compile(rf"(@{_FIELD}|{_FIELD}(?:[ \t]+{_FIELD}){{4}})(?:[ \t]+(.*))?", re.DOTALL)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_SETTING = re.compile(r"""[ \t]*(?:"([^"]*)"|'([^']*)'|([^ \t="']+))[ \t]*=[ \t]*(.*)""", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAMES = re.compile(r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)", re.IGNORECASE)
_STEP_OF_ONE_VALUE = re.compile(r"(?:^|,)[^,*/-]+/")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line that runs something. `command` and `stdin` have `%` resolved; `stdin` is None without one.

    `environment` holds the settings that stand above the line, `time_zone` the CRON_TZ among them, or None.
    """

    line: int
    expression: str
    command: str
    stdin: str | None = None
    user: str | None = None
    time_zone: str | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """One line that is not taken over, and why. `unsupported` lines are right, but have no counterpart here."""

    line: int
    text: str
    reason: str
    unsupported: bool = False


class _Refused(Exception):
    def __init__(self, reason: str, *, unsupported: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unsupported = unsupported


@dataclass(slots=True)
class _State:
    """What the lines above say about those below."""

    system: bool
    environment: dict[str, str] = field(default_factory=dict)
    time_zone: str | None = None
    bad_time_zone: int | None = None


def is_system(path: str) -> bool:
    """Whether a file of this path has the user column: etc/crontab and files of a cron.d folder."""
    pure = PurePath(path)
    return pure.parts[-2:] == ("etc", "crontab") or pure.parent.name == "cron.d"


def parse(content: bytes, *, system: bool) -> Iterator[Entry | Problem]:
    """The lines of a crontab that run something or cannot be read, in order; `system` says it has the user column.

    A line that is wrong is a Problem and changes nothing for those after it, except a CRON_TZ that is no time zone:
    the lines below it would fire at other times than meant, so they are Problems, too.
    """
    state = _State(system)
    for number, raw in enumerate(content.split(b"\n"), start=1):
        try:
            line = raw.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            yield Problem(number, ascii(raw)[2:-1][:200], _("The line is not valid UTF-8."))
            continue
        line = line.lstrip(BLANK)
        if not line or line.startswith("#"):
            continue
        try:
            entry = _read(line, number, state)
        except _Refused as refused:
            yield Problem(number, clipped(line, 200), refused.reason, refused.unsupported)
            continue
        if entry is not None:
            yield entry


def _read(line: str, number: int, state: _State) -> Entry | None:
    if "\x00" in line:
        raise _Refused(_("The line has a NUL character."))
    setting = _setting(line)
    if setting is not None:
        _take_setting(*setting, number, state)
        return None
    found = _TIMES.match(line)
    if found is None:
        raise _Refused(_("This is neither a setting nor five time fields and a command."))
    expression, rest = _expression(found[1]), (found[2] or "").strip(BLANK)
    user = None
    if state.system:
        user, rest = _split_user(rest)
    if not rest:
        raise _Refused(_("The command is missing."))
    if state.bad_time_zone is not None:
        raise _Refused(_("Its time zone is unknown; see line %(line)d.") % {"line": state.bad_time_zone})
    command, stdin = split_input(rest)
    if not command.strip():
        raise _Refused(_("The command is missing."))
    return Entry(number, expression, command, stdin, user, state.time_zone, dict(state.environment))


def _setting(line: str) -> tuple[str, str] | None:
    """(name, value) of an environment line; None for any other line, as cron decides it."""
    found = _SETTING.fullmatch(line)
    if found is None:
        return None
    name = next(part for part in found.groups()[:3] if part is not None)
    value = found[4].rstrip(BLANK)
    if value[:1] in ('"', "'"):
        return (name, value[1:-1]) if len(value) >= 2 and value.find(value[0], 1) == len(value) - 1 else None
    return name, value


def _take_setting(name: str, value: str, number: int, state: _State) -> None:
    if not _VARIABLE.fullmatch(name):
        raise _Refused(_("%(name)r is no name for an environment variable.") % {"name": clipped(name, 60)})
    if name == "CRON_TZ":
        try:
            cron.zone(value)
        except cron.CronError as error:
            state.time_zone, state.bad_time_zone = None, number
            raise _Refused(error.message) from error
        state.time_zone, state.bad_time_zone = value, None
    elif name == "LOGNAME":
        raise _Refused(_("cron itself sets LOGNAME and ignores this line."), unsupported=True)
    else:
        state.environment[name] = value


def _expression(times: str) -> str:
    fields = times.split()
    if fields == ["@reboot"]:
        raise _Refused(_("@reboot is not supported: nothing fires when a machine starts."), unsupported=True)
    if times.startswith("-"):
        raise _Refused(_("Debian's cron knows no leading '-'."))
    for text in fields if not times.startswith("@") else ():
        # Our own extensions (H, L, #) are none of cron's: there such a line is an error.
        if re.search(r"[^0-9*,/-]", _NAMES.sub("", text)):
            raise _Refused(_("%(field)r is no time field.") % {"field": clipped(text, 40)})
        if _STEP_OF_ONE_VALUE.search(text):
            raise _Refused(_("%(field)r: a step needs * or a range before it.") % {"field": clipped(text, 40)})
    expression = " ".join(fields)
    try:
        cron.parse(expression)
    except cron.CronError as error:
        raise _Refused(error.message) from error
    return expression


def _split_user(rest: str) -> tuple[str, str]:
    user, command = [*re.split(r"[ \t]+", rest, maxsplit=1), ""][:2]
    if not _USER.fullmatch(user):
        raise _Refused(
            _("%(user)r is no user name; a system crontab has one before the command.") % {"user": user[:40]}
        )
    return user, command


def split_input(text: str) -> tuple[str, str | None]:
    r"""The command and its standard input, or None without one: the first `%` parts them, later ones are newlines.

    `\%` is a `%`; before any other character a backslash is the shell's business.
    """
    parts = [""]
    for piece in re.findall(r"\\.|.", text, re.DOTALL):
        if piece == "%":
            parts.append("")
        else:
            parts[-1] += "%" if piece == r"\%" else piece
    if len(parts) == 1:
        return parts[0], None
    stdin = "\n".join(parts[1:])
    return parts[0], stdin if stdin.endswith("\n") or not stdin else stdin + "\n"
