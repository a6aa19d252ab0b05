"""From what a crontab says to a command line for `/bin/sh -c` that does the same, and to a name for it. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

from tasks_app.texts import clipped

LONGEST_NAME = 60
# Words that guard, group or set up a command, but are not what it is about.
_GUARDS = frozenset({"test", "[", "[[", "cd", "command", "true", ":", "sleep", "umask", "exit", "export", "set"})
_PREFIXES = frozenset(
    {"if", "then", "else", "fi", "{", "}", "!", "exec", "nice", "ionice", "time", "(", ")", "do", "done"}
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def command_line(command: str, environment: Mapping[str, str], stdin: str | None) -> str:
    """The command with its settings exported, its shell (`SHELL`), its folder (`HOME`) and its input.

    Values stand in single quotes, so that nothing in them is expanded: cron does not expand them either.
    """
    lines = []
    if environment:
        lines.append("export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items()))
    if environment.get("HOME"):
        lines.append('cd -- "$HOME" || exit 1')
    shell = environment.get("SHELL") or "/bin/sh"
    if stdin is None and shell == "/bin/sh":
        return "\n".join([*lines, command])
    call = f"exec {shlex.quote(shell)} -c {shlex.quote(command)}"
    if stdin is None:
        return "\n".join([*lines, call])
    end = _marker(stdin)
    return "\n".join([*lines, f"{call} <<'{end}'", f"{stdin}{end}"])


def _marker(text: str) -> str:
    """A line that does not occur in the text, to end a here-document with."""
    lines = set(text.split("\n"))
    marker, number = "END_OF_INPUT", 1
    while marker in lines:
        number += 1
        marker = f"END_OF_INPUT_{number}"
    return marker


def gist(command: str) -> str:
    """The program that a command line is about, with its first arguments: short enough for a name.

    Guards (`test -x ... ||`), changes of folder, assignments and redirections are passed over.
    """
    segments = [_words(segment) for segment in re.split(r"&&|\|\||[;|\n]", command)]
    telling = [words for words in segments if words and words[0] not in _GUARDS]
    words = telling[0] if telling else command.split()
    program = words[0].rstrip("/").rpartition("/")[2] or words[0]
    return clipped(_printable(" ".join([program, *words[1:]])), LONGEST_NAME)


def _words(segment: str) -> list[str]:
    try:
        words = shlex.split(segment, comments=True)
    except ValueError:
        words = segment.split()
    words = list(_without_redirections(words))
    while words and (words[0] in _PREFIXES or _ASSIGNMENT.match(words[0])):
        words.pop(0)
    while words and words[-1] in _PREFIXES:
        words.pop()
    return words


def _without_redirections(words: Iterable[str]) -> Iterable[str]:
    passed = False
    for word in words:
        found = re.match(r"(?:&|\d*)(?:>>?|<)&?(.*)", word)
        if found:
            passed = not found[1]
        elif passed:
            passed = False
        elif word != "&":
            yield word


def _printable(text: str) -> str:
    return re.sub(r"\s+", " ", "".join(char if char.isprintable() else " " for char in text)).strip()
