"""A text that tries to be markup, in every name and note there is: pages show it, and have no element more for it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.utils.html import escape

from access_app.models import ApiKey, Secret, WorkerKey
from tasks_app.models import Calendar, Project, Resource, Run, RunEvent, Schedule, Task, TaskVersion
from tests.test_every_page import ADMIN, CONSOLE, OPEN, admin_address, filled, objects, signed_in
from workers_app.models import Worker

__all__ = ["objects"]

NAUGHTY = "\"' onnx=1></textarea></title></script><nx-tag onnx=1>&lt;nx-b&gt;{{7*7}}"
# Every text of ours that no rule of its own narrows, by the model that has it.
TEXTS: dict[Any, tuple[str, ...]] = {
    Task: ("name", "description", "task_type", "concurrency_key", "routing_key", "paused_reason"),
    TaskVersion: ("command",),
    Schedule: ("note", "error"),
    Run: ("reason_detail", "concurrency_key"),
    RunEvent: ("detail", "actor"),
    Calendar: ("name", "description"),
    Resource: ("name", "description"),
    Secret: ("name", "description"),
    Project: ("name", "description"),
    Worker: ("name", "host", "code_version"),
    ApiKey: ("name",),
    WorkerKey: ("name",),
    get_user_model(): ("first_name", "last_name"),
    Group: ("name",),
}


class Elements(HTMLParser):
    """The names of the elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {tag, *(name for name, _value in attrs)}


def is_hurt(page: str) -> bool:
    """Whether the text has become markup of the page."""
    return any("nx" in name for name in Elements(page).names)


def rename(text: str) -> None:
    for model, names in TEXTS.items():
        for row in model._default_manager.all():
            # The key behind it: some are unique.
            fields = {name: f"{text}{row.pk}"[: model._meta.get_field(name).max_length] for name in names}
            model._default_manager.filter(pk=row.pk).update(**fields)


@pytest.mark.parametrize(
    "place", ["<p>%s</p>", '<a title="%s">', "<a title='%s'>", "<textarea>%s</textarea>", "<script>'%s'</script>"]
)
def test_in_a_page_that_does_not_escape_it_the_text_is_markup(place):
    assert is_hurt(place.replace("%s", NAUGHTY))
    assert not is_hurt(place.replace("%s", escape(NAUGHTY)))


def test_a_text_that_tries_to_be_markup_stays_a_text_on_every_page(objects, root_user):
    rename(NAUGHTY)
    client, shown = signed_in(root_user), 0
    addresses = [filled(route, objects) for route in CONSOLE if route not in OPEN]
    addresses += [admin_address(route, objects) for route in ADMIN if route.count("/") == 3 or "/change/" in route]
    for address in [*addresses, "/tasks/?name=nx-tag", "/runs/?task_name=nx-tag"]:
        answer = client.get(address)
        assert answer.status_code < 500, address
        if answer.status_code != 200 or not answer["Content-Type"].startswith("text/html"):
            continue
        page = answer.content.decode()
        assert not is_hurt(page) and "<nx" not in page and "&lt;nx-b&gt;49" not in page, address
        shown += escape(NAUGHTY) in page
    assert shown > 25, shown
