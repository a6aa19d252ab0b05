"""A field of a form that takes a secret value and never shows one, not even what was typed a moment ago."""

from __future__ import annotations

from typing import Any

from django import forms


class WriteOnlyTextarea(forms.Textarea):
    """Always empty when it is shown."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        own = {"rows": 3, "class": "mono", "autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}
        super().__init__({**own, **(attrs or {})})

    def format_value(self, value: Any) -> None:  # noqa: ARG002  (whatever it is)
        return None


class WriteOnlyField(forms.CharField):
    """The value as it was typed, its blanks and line ends too; None where nothing was."""

    widget = WriteOnlyTextarea

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, empty_value="", **options)

    def clean(self, value: Any) -> Any:
        # Browsers send line ends as CRLF.
        text = super().clean(value).replace("\r\n", "\n")
        return text or None

    def has_changed(self, initial: Any, data: Any) -> bool:  # noqa: ARG002  (there is nothing to compare with)
        return bool(data)
