"""The run's page, its buttons and its output."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from console_app.run_path import steps
from tasks_app import deaths, end_steps, moves, transitions
from tasks_app.deaths import Cause, Death
from tasks_app.end_steps import Taken
from tasks_app.models import EndStep, Run, StoredOutput
from tasks_app.states import RunState
from tests.console_app.factories import make_run, make_worker, write_lines

POLL = {"HX-Request": "true", "HX-Source": "div#region"}


def _path(run: Run) -> list[tuple[str, bool, bool]]:
    found = steps(run, list(run.events.order_by("pk")))
    return [(step.state, step.at is not None, step.is_current) for step in found]


def test_the_path_shows_what_was_passed_where_it_is_and_what_lies_ahead(task):
    assert _path(make_run(task, RunState.QUEUED)) == [
        ("waiting", True, False),
        ("queued", True, True),
        ("running", False, False),
        ("succeeded", False, False),
    ]
    assert _path(make_run(task, RunState.FAILED)) == [
        ("waiting", True, False),
        ("queued", True, False),
        ("running", True, False),
        ("failed", True, True),
    ]
    assert _path(make_run(task, RunState.CANCELLED)) == [("waiting", True, False), ("cancelled", True, True)]


def test_a_run_whose_events_were_pruned_still_has_its_page(as_bob, task):
    run = make_run(task, RunState.FAILED)
    run.events.all().delete()
    assert _path(run) == []
    assert "failed" in as_bob.get(f"/runs/{run.pk}/").text


def test_a_retry_begins_a_path_of_its_own(task):
    run = _retried(task)
    assert _path(run) == [
        ("waiting", True, True),
        ("queued", False, False),
        ("running", False, False),
        ("succeeded", False, False),
    ]


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.RUNNING, RunState.SUCCEEDED, RunState.TIMED_OUT])
def test_the_page_of_a_run_in_any_state_answers(as_bob, task, state):
    run = make_run(task, state)
    page = as_bob.get(f"/runs/{run.pk}/")
    assert page.status_code == 200
    is_over = state in (RunState.SUCCEEDED, RunState.TIMED_OUT)
    assert ("Run again" in page.text) is is_over
    assert ("Cancel run" in page.text) is not is_over
    assert (f'hx-get="/runs/{run.pk}/"' in page.text) is not is_over


def test_a_run_that_does_not_start_says_why_and_who_holds_its_slot(as_bob, task):
    make_worker()
    task.max_concurrent = 1
    task.save()
    live, run = make_run(task, RunState.QUEUED), make_run(task)
    page = as_bob.get(f"/runs/{run.pk}/").text
    assert "Why is it not running?" in page
    assert "1 of 1 runs of its task are live." in page
    assert f'<a href="/runs/{live.pk}/">#{live.pk} {task.name}</a>' in page
    assert "A worker takes it up any moment." in as_bob.get(f"/runs/{live.pk}/").text
    assert "It starts at the next look of a dispatcher." not in page
    transitions.cancel_unstarted([live.pk], now=timezone.now(), actor="test")
    assert "It starts at the next look of a dispatcher." in as_bob.get(f"/runs/{run.pk}/").text
    assert "Why is it not running?" not in as_bob.get(f"/runs/{live.pk}/").text


def test_the_region_of_a_run_that_has_ended_stops_polling_and_brings_its_new_buttons(as_bob, task):
    run = make_run(task, RunState.SUCCEEDED)
    region = as_bob.get(f"/runs/{run.pk}/", headers=POLL).text
    assert "hx-trigger" not in region
    assert 'id="run-actions" hx-swap-oob="outerMorph"' in region
    assert "Run again" in region


def test_output_is_escaped_and_coloured_and_other_escapes_are_dropped(as_bob, task):
    run = make_run(task, RunState.SUCCEEDED)
    write_lines(run, ["\x1b[32mok\x1b[0m <b>raw</b>", "\x1b]0;title\x07\x1b[2Jplain"])
    page = as_bob.get(f"/runs/{run.pk}/").text
    assert '<span class="sgr-green">ok</span> &lt;b&gt;raw&lt;/b&gt;' in page
    assert ">plain</span>" in page
    assert "\x1b" not in page
    assert "End of the output of attempt 1." in page


def test_polling_goes_on_from_the_offset_until_the_run_is_over(as_bob, task):
    run = make_run(task, RunState.RUNNING)
    write_lines(run, ["one", "two"])
    first = as_bob.get(f"/runs/{run.pk}/log?offset=1").text
    assert ">one<" not in first
    assert ">two<" in first
    assert f'hx-get="/runs/{run.pk}/log?attempt=1&amp;offset=2&amp;idle=0"' in first
    Run.objects.filter(pk=run.pk).update(worker_id=(worker := uuid4()))
    outcome = moves.Outcome(run.pk, 1, RunState.SUCCEEDED)
    transitions.finish([outcome], worker_id=worker, now=timezone.now(), actor="test")
    last = as_bob.get(f"/runs/{run.pk}/log?offset=2").text
    assert "hx-get" not in last
    assert "End of the output" in last


def test_polls_that_bring_nothing_come_less_often_down_to_every_five_seconds(as_bob, task):
    run = make_run(task, RunState.RUNNING)
    seconds = [as_bob.get(f"/runs/{run.pk}/log?offset=0&idle={idle}").context["seconds"] for idle in (0, 4, 9, 500)]
    assert seconds == [1, 2, 3, 5]
    write_lines(run, ["news"])
    assert as_bob.get(f"/runs/{run.pk}/log?offset=0&idle=500").context["seconds"] == 1


def test_long_output_starts_near_its_end_and_earlier_lines_are_asked_for(as_bob, task):
    run = make_run(task, RunState.SUCCEEDED)
    for batch in range(4):
        write_lines(run, [f"line {batch * 400 + i}." for i in range(400)], first=batch * 400)
    page = as_bob.get(f"/runs/{run.pk}/").text
    assert "line 1099." not in page
    assert "line 1100." in page
    assert "line 1599." in page
    earlier = as_bob.get(f"/runs/{run.pk}/log?before=1100").text
    assert "line 99." not in earlier
    assert "line 100." in earlier
    assert "line 1099." in earlier
    assert "line 1100." not in earlier
    assert "before=100" in earlier
    text = b"".join(as_bob.get(f"/runs/{run.pk}/log.txt").streaming_content).decode()
    assert text == "".join(f"line {i}.\n" for i in range(1600))


def test_each_attempt_has_its_output_and_the_first_leads_on_to_the_second(as_bob, task):
    run = _retried(task)
    write_lines(run, ["first try"])
    write_lines(run, ["second try"], attempt=2)
    page = as_bob.get(f"/runs/{run.pk}/?attempt=1").text
    assert "first try" in page
    assert "second try" not in page
    assert f"/runs/{run.pk}/log?attempt=2&amp;offset=0" in page
    assert "second try" in as_bob.get(f"/runs/{run.pk}/log?attempt=2&offset=0").text


@pytest.mark.parametrize("query", ["offset=x", "offset=-1", "before=abc", "attempt=99", "idle=" + "9" * 30])
def test_odd_numbers_in_a_poll_do_no_harm(as_bob, task, query):
    run = make_run(task, RunState.RUNNING)
    assert as_bob.get(f"/runs/{run.pk}/log?{query}").status_code == 200


def test_cancel_of_a_waiting_run_ends_it_and_a_second_cancel_says_that_it_is_over(as_bob, task):
    run, other = make_run(task), make_run(task)
    assert "The run is cancelled." in as_bob.post(f"/runs/{run.pk}/cancel", follow=True).text
    page = as_bob.post(f"/runs/{run.pk}/cancel", follow=True)
    assert "The run is cancelled already." in page.text
    assert "message error" in page.text
    other.refresh_from_db()
    assert other.state == RunState.WAITING


def test_cancel_of_a_running_run_asks_its_worker(as_bob, task):
    run = make_run(task, RunState.RUNNING)
    page = as_bob.post(f"/runs/{run.pk}/cancel", follow=True).text
    run.refresh_from_db()
    assert (run.state, run.cancel_requested_at is not None) == (RunState.RUNNING, True)
    assert "Asked to stop" in page


def test_a_run_that_was_asked_to_stop_can_be_killed_from_its_page(as_bob, task):
    run = make_run(task, RunState.RUNNING)
    button = 'popovertarget="terminate">'
    assert button not in as_bob.get(f"/runs/{run.pk}/").text
    assert button in as_bob.post(f"/runs/{run.pk}/cancel", follow=True).text
    page = as_bob.post(f"/runs/{run.pk}/terminate", follow=True).text
    run.refresh_from_db()
    assert run.terminate_requested_at is not None
    assert "Asked to be killed" in page and "Its worker kills the run." in page


def test_the_page_of_an_ended_run_shows_the_steps_of_its_ending(as_bob, task):
    run, other = make_run(task, RunState.RUNNING), make_run(task, RunState.RUNNING)
    assert "How it was ended" not in as_bob.get(f"/runs/{run.pk}/").text
    as_bob.post(f"/runs/{run.pk}/cancel")
    run.refresh_from_db()
    assert run.cancel_requested_at is not None
    end_steps.record([Taken(run.pk, 1, EndStep.Step.TERM, run.cancel_requested_at + timedelta(seconds=2))])
    page = as_bob.get(f"/runs/{run.pk}/").text
    assert "How it was ended" in page and "asked to stop" in page and "TERM sent" in page and "2.0 s" in page
    assert "KILL sent" not in page
    assert "How it was ended" not in as_bob.get(f"/runs/{other.pk}/").text


def _quarantined(task) -> Run:
    run = make_run(task, RunState.RUNNING)
    lost = moves.Outcome(run.pk, 1, RunState.QUARANTINED, "poison", "1 worker died.", worker_died=True)
    transitions.recover([lost], now=timezone.now(), actor="test")
    assert run.worker_id is not None
    deaths.record([Death(run.pk, 1, run.worker_id, "worker-7", "node-9")], now=timezone.now())
    run.refresh_from_db()
    return run


def test_a_quarantined_run_shows_the_dead_workers_and_is_released_alone(as_bob, task):
    run, other = _quarantined(task), make_run(task, RunState.FAILED)
    assert run.worker_id is not None
    deaths.explain(run.worker_id, Cause(signal=9, out_of_memory=True, peak_mb=1234, peaks_of_runs={run.pk: 777}))
    write_lines(run, ["\x1b[31mlast\x1b[0m words"])
    page = as_bob.get(f"/runs/{run.pk}/").text
    for text in ("Workers that died with it", "worker-7", "node-9", "out of memory", "777 MB", "1,234 MB"):
        assert text in page
    assert '<span class="sgr-red">last</span> words' in page
    assert "Release from quarantine" in page
    assert "Release from quarantine" not in as_bob.get(f"/runs/{other.pk}/").text
    response = as_bob.post(f"/runs/{run.pk}/release", {"how": "alone", "memory_limit_mb": "12"})
    again = Run.objects.get(rerun_of=run)
    assert response["Location"] == f"/runs/{again.pk}/"
    assert (again.alone, again.memory_limit_mb) == (True, None)
    assert "no other run on its worker" in as_bob.get(f"/runs/{again.pk}/").text
    assert "message error" in as_bob.post(f"/runs/{run.pk}/release", {"how": "alone"}, follow=True).text
    assert "message error" in as_bob.post(f"/runs/{other.pk}/release", follow=True).text


def test_output_is_searched_from_its_page(as_bob, task):
    run = make_run(task, RunState.SUCCEEDED)
    write_lines(run, [f"line {n} <b>" + (" Needle" if n % 2 else "") for n in range(450)])
    page = as_bob.get(f"/runs/{run.pk}/").text
    assert f'hx-get="/runs/{run.pk}/log/search"' in page
    found = as_bob.get(f"/runs/{run.pk}/log/search?search=needle").text
    assert "line 1 &lt;b&gt; Needle" in found and "line 2 " not in found
    assert found.count("Needle") == 200 and "offset=401" in found
    rest = as_bob.get(f"/runs/{run.pk}/log/search?search=needle&offset=401").text
    assert rest.count("Needle") == 25 and "offset=" not in rest
    assert "No line holds this." in as_bob.get(f"/runs/{run.pk}/log/search?search=absent").text
    assert as_bob.get(f"/runs/{run.pk}/log/search?search=").text.strip() == ""


def test_output_is_downloaded_as_a_file(as_bob, task):
    run = make_run(task, RunState.SUCCEEDED)
    write_lines(run, ["one"])
    response = as_bob.get(f"/runs/{run.pk}/log.txt?download")
    assert response["Content-Disposition"] == f'attachment; filename="run-{run.pk}-1.txt"'
    assert b"".join(response.streaming_content) == b"one\n"


def test_a_store_that_does_not_answer_is_said_in_place_of_the_output(as_bob, task, tmp_path):
    run = make_run(task, RunState.SUCCEEDED)
    StoredOutput.objects.create(
        run=run, attempt=1, store=f"file://{tmp_path}", key="gone", line_count=3, size=9, truncated=False
    )
    page = as_bob.get(f"/runs/{run.pk}/")
    assert page.status_code == 200 and "does not answer" in page.text
    assert str(tmp_path) not in page.text


def test_run_again_makes_a_new_run_that_points_to_the_old_one(as_bob, task):
    run = make_run(task, RunState.FAILED)
    response = as_bob.post(f"/runs/{run.pk}/rerun")
    again = Run.objects.get(rerun_of=run)
    assert response["Location"] == f"/runs/{again.pk}/"
    refused = as_bob.post(f"/runs/{again.pk}/rerun", follow=True)
    assert "message error" in refused.text
    assert Run.objects.count() == 2


def test_a_waiting_run_is_held_and_released_and_a_running_one_is_not(as_bob, task):
    waiting, running = make_run(task), make_run(task, RunState.RUNNING)
    as_bob.post(f"/runs/{waiting.pk}/hold")
    assert Run.objects.filter(pk=waiting.pk, held=True).exists()
    assert "Held: it does not start" in as_bob.get(f"/runs/{waiting.pk}/").text
    as_bob.post(f"/runs/{waiting.pk}/unhold")
    assert Run.objects.filter(pk=waiting.pk, held=False).exists()
    assert "message error" in as_bob.post(f"/runs/{running.pk}/hold", follow=True).text


def _retried(task) -> Run:
    run = make_run(task, RunState.RUNNING)
    retry_at = timezone.now() + timedelta(minutes=5)
    outcome = moves.Outcome(run.pk, 1, RunState.WAITING, "retry", "Exit code 1.", 1, retry_at=retry_at)
    transitions.finish([outcome], worker_id=run.worker_id, now=timezone.now(), actor="test")  # type: ignore[arg-type]
    run.refresh_from_db()
    return run
