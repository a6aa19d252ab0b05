"""What workers may be called, and what may stand in their labels."""

from __future__ import annotations

import re

from tasks_app.label_expressions import KEYWORDS, LABEL_NAME, LABEL_VALUE

WORKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def is_label(name: str, value: str) -> bool:
    """Whether a worker may have this label, so that expressions can ask for it."""
    return bool(LABEL_NAME.fullmatch(name)) and name not in KEYWORDS and bool(LABEL_VALUE.fullmatch(value))
