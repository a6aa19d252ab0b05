"""Calendars in the admin: written through their service, by whoever may."""

from __future__ import annotations

import pytest
from django.test import Client

from access_app.models import AuditEntry
from access_app.roles import grant
from tasks_app.models import Calendar, Project, Schedule
from tests.tasks_app.admin_pages import make_task, page, schedule_form

pytestmark = pytest.mark.django_db
LUNCH = '{"blackout": [{"kind": "weekly", "from": "12:00", "to": "13:00"}]}'


@pytest.fixture
def root(admin_client: Client) -> Client:
    return admin_client


def typed(**fields: object) -> dict[str, object]:
    return {"name": "lunch", "description": "", "document": LUNCH, "holidays": "[]", **fields}


def test_a_calendar_is_created_changed_taken_by_a_schedule_and_kept_while_in_use(root):
    assert root.post(page(Calendar, "add"), typed(holidays='[{"country": "DE"}]')).status_code == 302
    calendar = Calendar.objects.get()
    assert calendar.project is None and calendar.holiday_rules["blackout"]
    part = Calendar.objects.create(name="part")
    change = page(Calendar, "change", calendar.pk)
    assert root.post(change, typed(name="noon", includes=[part.pk])).status_code == 302
    calendar.refresh_from_db()
    assert (calendar.name, calendar.holidays, list(calendar.includes.all())) == ("noon", [], [part])
    assert set(AuditEntry.objects.values_list("verb", flat=True)) == {"create", "update"}
    task = make_task()
    form = schedule_form(task, calendar=calendar.pk, calendar_action="next_allowed", jitter_seconds=5)
    assert root.post(page(Schedule, "add"), form).status_code == 302
    schedule = Schedule.objects.get()
    assert (schedule.calendar, schedule.jitter_seconds) == (calendar, 5)
    root.post(page(Calendar, "delete", calendar.pk), {"post": "yes"})
    assert Calendar.objects.filter(pk=calendar.pk).exists()
    schedule.delete()
    root.post(page(Calendar, "delete", calendar.pk), {"post": "yes"})
    assert list(Calendar.objects.all()) == [part]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"document": "[]"}, "document"), ({"holidays": '[{"country": "XX"}]'}, "holidays"), ({"name": ""}, "name")],
)
def test_what_is_wrong_stands_at_its_field(root, fields, field):
    response = root.post(page(Calendar, "add"), typed(**fields))
    assert response.status_code == 200
    assert field in response.context["adminform"].form.errors
    assert not Calendar.objects.exists()


def test_a_member_keeps_the_calendars_of_the_project_and_only_sees_shared_ones(django_user_model):
    own, other = Project.objects.get(name="default"), Project.objects.create(name="other")
    shared, mine = Calendar.objects.create(name="shared"), Calendar.objects.create(name="mine", project=own)
    foreign = Calendar.objects.create(name="foreign", project=other)
    user = django_user_model.objects.create_user("editor", password="x", is_staff=True)
    from django.contrib.auth.models import Permission

    user.user_permissions.set(Permission.objects.filter(content_type__app_label="tasks_app"))
    grant(user, "editor", own)
    client = Client()
    client.force_login(user)
    assert client.get(page(Calendar, "change", foreign.pk)).status_code == 302
    assert client.post(page(Calendar, "change", shared.pk), typed(name="taken")).status_code == 403
    assert client.post(page(Calendar, "change", mine.pk), typed(name="changed")).status_code == 302
    assert client.post(page(Calendar, "add"), typed(name="everywhere")).status_code == 200
    assert set(Calendar.objects.values_list("name", flat=True)) == {"shared", "changed", "foreign"}
