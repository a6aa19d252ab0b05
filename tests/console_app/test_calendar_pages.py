"""The pages of calendars, and the calendar on the form and the page of a schedule."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_app.actors import system_actor
from access_app.roles import grant
from tasks_app.models import Calendar, Project, Schedule
from tasks_app.services import calendars, schedules
from tests.console_app.factories import make_task

HOSTILE = "<script>alert(1)</script>"
OFFICE = '{"allowed": [{"kind": "weekly", "days": ["mon"], "from": "09:00", "to": "17:00"}]}'


@pytest.fixture
def root(root_user) -> Client:
    client = Client()
    client.force_login(root_user)
    return client


def make(name: str = "office", **fields: object) -> Calendar:
    return calendars.create(system_actor(), {"name": name, **fields}, now=timezone.now())


def form(**values: object) -> dict[str, object]:
    return {"name": "office", "description": "", "document": OFFICE, "holidays": "", "includes": [], **values}


def test_a_calendar_is_created_changed_and_deleted(as_alice, project):
    page = as_alice.post("/calendars/new", form(project=project.pk, holidays="de-BY, CN"))
    calendar = Calendar.objects.get()
    assert page["Location"] == f"/calendars/{calendar.pk}/"
    assert (calendar.project, calendar.document["allowed"][0]["days"]) == (project, ["mon"])
    assert calendar.holidays == [{"country": "DE", "subdivision": "BY"}, {"country": "CN"}]
    part = make("part", project=project)
    as_alice.post(f"/calendars/{calendar.pk}/", form(name="desk", holidays="CN", includes=[part.pk]))
    calendar.refresh_from_db()
    assert (calendar.name, calendar.project, calendar.holidays) == ("desk", project, [{"country": "CN"}])
    assert list(calendar.includes.all()) == [part]
    as_alice.post(f"/calendars/{calendar.pk}/delete")
    assert list(Calendar.objects.all()) == [part]


def test_names_of_holidays_that_stay_are_kept(as_alice, project):
    calendar = make(project=project, holidays=[{"country": "DE", "name": "Germany"}])
    assert 'value="DE"' in as_alice.get(f"/calendars/{calendar.pk}/").text
    as_alice.post(f"/calendars/{calendar.pk}/", form(holidays="DE, FR"))
    calendar.refresh_from_db()
    assert calendar.holidays == [{"country": "DE", "name": "Germany"}, {"country": "FR"}]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"document": "{"}, "document"),
        ({"document": '{"allowed": [{"kind": "moon"}]}'}, "document"),
        ({"document": '{"allowed": ' + "[" * 5000 + "]" * 5000 + "}"}, "document"),
        ({"holidays": "Bavaria"}, "holidays"),
        ({"holidays": "XX"}, "holidays"),
        ({"includes": ["99999999"]}, "includes"),
        ({"project": ""}, "project"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(as_alice, project, values, field):
    response = as_alice.post("/calendars/new", form(**{"project": project.pk, "description": "typed", **values}))
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert "typed" in response.text
    assert not Calendar.objects.exists()


@pytest.mark.parametrize("typed", [OFFICE, "", "{", "[]", '{"x": 1}', HOSTILE, "\x00"])
def test_the_preview_is_a_fragment_and_stores_nothing(as_alice, project, typed):
    page = as_alice.post("/calendars/preview", form(document=typed))
    assert page.status_code == 200
    assert "<html" not in page.text and "<script>" not in page.text
    assert ("openings" in page.context) is (typed in (OFFICE, ""))
    assert not Calendar.objects.exists()


def test_the_preview_names_the_coming_openings(as_alice, project):
    openings = as_alice.post("/calendars/preview", form()).context["openings"]
    assert len(openings) == 6
    assert all((start.weekday(), end.hour) == (0, 17) for start, end in openings)


def test_the_list_says_who_is_open_and_counts_only_what_one_may_see(as_alice, root, charlie, project):
    shared = make("shared")
    closed = make("closed", document={"blackout": [{"kind": "weekly"}]}, project=project)
    broken = make("broken")
    Calendar.objects.filter(pk=broken.pk).update(document={"x": 1})
    other = Project.objects.create(name="other")
    for number, where in enumerate((project, other)):
        task = make_task(where, f"task {number}")
        schedules.create(system_actor(), task, {"expression": "0 2 * * *", "calendar": shared}, now=timezone.now())
    rows = {calendar: (now, calendar.used_by) for calendar, now in as_alice.get("/calendars/").context["rows"]}
    assert rows[shared] == ({"open": True, "change": None}, 1)
    assert rows[closed] == ({"open": False, "change": None}, 0)
    assert "error" in rows[broken][0]
    assert {c: c.used_by for c, _now in root.get("/calendars/").context["rows"]}[shared] == 2
    grant(charlie, "viewer", other)
    client = Client()
    client.force_login(charlie)
    assert "closed" not in {calendar.name for calendar, _now in client.get("/calendars/").context["rows"]}
    assert "task 0" not in client.get(f"/calendars/{shared.pk}/").text
    assert client.get(f"/calendars/{broken.pk}/").status_code == 200


def test_the_list_reads_all_calendars_together(as_alice, project):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert as_alice.get("/calendars/").status_code == 200
        return len(captured)

    make("first", project=project)
    few = queries()
    for number in range(20):
        make(f"further {number}", project=project)
    assert queries() == few


def test_a_reader_sees_the_rules_and_is_offered_no_change(as_bob, as_alice, project):
    calendar, shared = make(project=project), make("shared")
    for client, seen in ((as_bob, calendar), (as_alice, shared)):
        page = client.get(f"/calendars/{seen.pk}/")
        assert page.status_code == 200 and "Delete calendar" not in page.text
        assert client.post(f"/calendars/{seen.pk}/", form(name="mine")).status_code == 403
        client.post(f"/calendars/{seen.pk}/delete")
    assert as_bob.get("/calendars/new").status_code == 403
    assert "New calendar" not in as_bob.get("/calendars/").text
    assert set(Calendar.objects.values_list("name", flat=True)) == {"office", "shared"}


def test_a_stranger_finds_no_calendar(as_charlie, project):
    calendar = make(project=project)
    for address in (f"/calendars/{calendar.pk}/", f"/calendars/{10**30}/"):
        assert as_charlie.get(address).status_code == 404
        assert as_charlie.post(f"{address}delete").status_code == 404
    assert as_charlie.get("/calendars/").context["rows"] == []


def test_only_administrators_share_a_calendar(root, as_alice, project):
    assert root.post("/calendars/new", form(name="everywhere", project="")).status_code == 302
    assert Calendar.objects.get().project is None
    assert "shared by all projects" not in as_alice.get("/calendars/new").text


def test_one_in_use_is_kept_and_says_by_whom(as_alice, task):
    calendar = make(project=task.project)
    schedules.create(system_actor(), task, {"expression": "0 2 * * *", "calendar": calendar}, now=timezone.now())
    page = as_alice.post(f"/calendars/{calendar.pk}/delete", follow=True)
    assert "a schedule of extract" in page.text
    assert Calendar.objects.exists()


def test_hostile_names_are_text(as_alice, project):
    calendar = make(HOSTILE, project=project, description=HOSTILE)
    task = make_task(project, HOSTILE)
    schedules.create(system_actor(), task, {"expression": "0 2 * * *", "calendar": calendar}, now=timezone.now())
    shown = ("/calendars/", f"/calendars/{calendar.pk}/", f"/tasks/{task.pk}/", f"/tasks/{task.pk}/schedules/new")
    for address in shown:
        page = as_alice.get(address)
        assert page.status_code == 200
        assert "<script>alert" not in page.text, address


# Schedules


def _schedule_form(**values: object) -> dict[str, object]:
    return {
        "kind": "cron",
        "expression": "0 2 * * *",
        "time_zone": "UTC",
        "catch_up": "last",
        "catch_up_window_seconds": "3600",
        "max_catch_up": "100",
        "dst_gap": "run_after",
        "dst_repeat": "first",
        "enabled": "on",
        **values,
    }


def test_a_schedule_takes_a_calendar_jitter_and_a_deadline_and_the_page_of_its_task_shows_them(as_alice, task):
    calendar = make(document={"allowed": [{"kind": "weekly", "from": "09:00", "to": "17:00"}]})
    extras = {"calendar_action": "next_allowed", "jitter_seconds": "90", "start_deadline_seconds": "600"}
    as_alice.post(f"/tasks/{task.pk}/schedules/new", _schedule_form(calendar=calendar.pk, **extras))
    schedule = Schedule.objects.get()
    assert (schedule.calendar, schedule.calendar_action) == (calendar, "next_allowed")
    assert (schedule.jitter_seconds, schedule.start_deadline_seconds) == (90, 600)
    page = as_alice.get(f"/tasks/{task.pk}/")
    assert f'href="/calendars/{calendar.pk}/"' in page.text
    assert "spread over" in page.text and "moved to the next allowed time" in page.text
    assert [fire["at"].hour for fire in page.context["fires"]] == [9] * 8
    shown = as_alice.get(f"/schedules/{schedule.pk}/edit").context["form"]
    assert shown["calendar"].value() == calendar.pk
    as_alice.post(f"/schedules/{schedule.pk}/edit", _schedule_form(etag=shown["etag"].value()))
    schedule.refresh_from_db()
    assert (schedule.calendar, schedule.jitter_seconds, schedule.start_deadline_seconds) == (None, 0, None)


def test_the_preview_goes_by_the_calendar(as_alice, project):
    calendar = make(project=project, document={"blackout": [{"kind": "weekly"}]})
    page = as_alice.get("/tasks/preview", _schedule_form(calendar=calendar.pk))
    assert page.context["fires"] == [] and "lets nothing of it run before" in page.text


def test_a_fixed_delay_is_typed_and_previewed(as_alice, task):
    typed = _schedule_form(kind="fixed_delay", expression="", interval_seconds="90")
    assert "90 s after each end" in as_alice.get("/tasks/preview", typed).text
    as_alice.post(f"/tasks/{task.pk}/schedules/new", typed)
    assert Schedule.objects.get().kind == "fixed_delay"
    assert "90 s after each end" in as_alice.get(f"/tasks/{task.pk}/").text


def test_only_calendars_of_the_project_and_shared_ones_are_offered(root, task):
    own, shared = make("own", project=task.project), make("shared")
    make("foreign", project=Project.objects.create(name="other"))
    offered = root.get(f"/tasks/{task.pk}/schedules/new").context["form"].fields["calendar"].queryset
    assert list(offered) == [own, shared]
