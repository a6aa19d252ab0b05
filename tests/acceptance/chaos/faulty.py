"""manage.py with the fault in it that CHAOS_POINT and CHAOS_ACTION name: `python -m tests.acceptance.chaos.faulty`."""

from __future__ import annotations

import os
import sys

import django
from django.core.management import execute_from_command_line

from tests.acceptance.chaos import points

if __name__ == "__main__":
    django.setup()
    points.install(os.environ[points.POINT], os.environ[points.ACTION])
    execute_from_command_line(["manage.py", *sys.argv[1:]])
