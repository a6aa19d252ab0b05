"""A progress bar for long work, on a terminal only."""

from __future__ import annotations

from typing import Any

WIDTH = 32


class ProgressBar:
    """Draws itself over its own line on `stream`; where that is no terminal it stays silent."""

    def __init__(self, stream: Any, total: int) -> None:
        self._stream, self._total = stream, max(total, 1)
        self._draws = bool(getattr(stream, "isatty", lambda: False)())

    def show(self, done: int, text: str = "") -> None:
        """Show that `done` of the total are done, with a few words behind it."""
        if self._draws:
            # Without the colour that Django gives to standard error.
            self._stream.write(f"\r\x1b[K{bar(done, self._total)} {text}", style_func=str, ending="")
            self._stream.flush()

    def end(self) -> None:
        """Leave the line as it is."""
        if self._draws:
            self._stream.write("", style_func=str)


def bar(done: int, total: int) -> str:
    """`[#####---------------------------]  16 % 160/1000`."""
    share = min(max(done / max(total, 1), 0.0), 1.0)
    filled = int(share * WIDTH)
    return f"[{'#' * filled}{'-' * (WIDTH - filled)}] {int(share * 100):3d} % {done:,}/{total:,}"
