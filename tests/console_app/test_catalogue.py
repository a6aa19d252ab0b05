"""The committed catalogue of Simplified Chinese is whole, and its compiled form is the same."""

from __future__ import annotations

import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "locale" / "zh_Hans" / "LC_MESSAGES"
PLACEHOLDER = re.compile(r"%\((\w+)\)[a-z]|%[sd%]|\{(\w*)\}")
CONTEXT_END = "\x04"


class Entry(NamedTuple):
    key: str
    plural: str
    text: str
    is_fuzzy: bool


def _entries(text: str) -> Iterator[Entry]:
    for block in text.split("\n\n")[1:]:
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if match := re.match(r'(msg\w+(?:\[\d\])?) (".*")$', line):
                name = match[1]
            quoted = re.search(r'"(.*)"$', line)
            if name and quoted and not line.startswith("#"):
                fields[name] = fields.get(name, "") + re.sub(r'\\(["\\])', r"\1", quoted[1]).replace("\\n", "\n")
        context = f"{fields['msgctxt']}{CONTEXT_END}" if "msgctxt" in fields else ""
        text_ = fields.get("msgstr", fields.get("msgstr[0]", ""))
        is_fuzzy = any(line.startswith("#,") and "fuzzy" in line for line in block.splitlines())
        yield Entry(context + fields["msgid"], fields.get("msgid_plural", ""), text_, is_fuzzy)


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return list(_entries((FOLDER / "django.po").read_text()))


def test_every_text_is_translated_and_none_is_a_guess(entries):
    assert len(entries) > 500
    assert [entry.key for entry in entries if not entry.text or entry.is_fuzzy] == []


def test_a_translation_has_the_placeholders_of_its_text(entries):
    def placeholders(text: str) -> list[str]:
        return sorted(match[0] for match in PLACEHOLDER.finditer(text))

    wrong = [entry.key for entry in entries if placeholders(entry.key) != placeholders(entry.text)]
    assert wrong == []


def test_the_compiled_catalogue_holds_the_same_texts(entries):
    with (FOLDER / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for entry in entries:
        context, found, key = entry.key.rpartition(CONTEXT_END)
        text = (
            compiled.ngettext(key, entry.plural, 5)
            if entry.plural
            else compiled.pgettext(context, key)
            if found
            else compiled.gettext(key)
        )
        assert text == entry.text, entry.key


def test_the_reader_of_the_catalogue_finds_what_is_missing():
    sample = 'msgid ""\nmsgstr ""\n\n#, fuzzy\nmsgid "a %(n)s"\nmsgstr "b"\n\nmsgctxt "c"\nmsgid ""\n"d"\nmsgstr ""\n'
    assert list(_entries(sample)) == [Entry("a %(n)s", "", "b", True), Entry("c\x04d", "", "", False)]
