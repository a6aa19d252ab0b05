"""Dispatchers, workers and the broker taken away in the middle of work: nothing lost, nothing twice, no hand needed.

TEST_LONG=1 runs the full lengths: 200 schedules by the minute for three minutes, a broker away for one minute,
a worker frozen for 40 s.
"""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from scripts.probes import RABBITMQ
from tests.acceptance.work import LONG, RECOVERY_SECONDS, create_schedules, create_sleepers, create_task, say, trigger
from tests.proxy import Proxy

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]


def test_every_instant_of_many_schedules_gets_one_run_although_a_dispatcher_is_killed(stack, capsys):
    count, step, instants = (200, 60, 3) if LONG else (50, 2, 5)
    expression = "* * * * *" if LONG else "*/2 * * * * *"
    doomed = stack.dispatcher()
    stack.dispatcher()
    for _ in range(2):
        stack.worker(concurrency=4)
    create_schedules(stack, count, expression)
    # Only instants after all schedules were there are counted.
    first = stack.value("select max(next_fire_at) from tasks_app_schedule") + timedelta(seconds=step)
    # Killed around the second nominal instant, where it is most likely to be in the middle of firing.
    time.sleep(max((first + timedelta(seconds=step) - datetime.now(UTC)).total_seconds(), 0))
    doomed.kill()
    last = first + timedelta(seconds=step * (instants - 1))
    expected = count * instants
    window = f"nominal_at between '{first.isoformat()}' and '{last.isoformat()}'"
    done = f"select count(*) from tasks_app_run where state = 'succeeded' and {window}"
    stack.wait_for("all runs", lambda: stack.value(done) == expected, step * instants + RECOVERY_SECONDS)
    assert stack.value(f"select count(*) from tasks_app_run where {window}") == expected
    assert (
        stack.value(f"select count(distinct (schedule_id, nominal_at)) from tasks_app_run where {window}") == expected
    )
    assert stack.value("select coalesce(sum(count), 0) from tasks_app_ledgerentry") == 0
    p50, p99 = stack.rows(
        f"""select percentile_cont(0.5) within group (order by delay),
            percentile_cont(0.99) within group (order by delay)
        from (select extract(epoch from started_at - nominal_at) * 1000 as delay from tasks_app_run where {window}) d"""
    )[0]
    say(capsys, f"{expected} runs of {count} schedules, none twice; start after {p50:.0f} ms (p50), {p99:.0f} ms (p99)")


def test_the_runs_of_a_killed_worker_are_rerun_or_recorded_lost_in_30_seconds_and_leave_no_process(stack, capsys):
    stack.dispatcher()
    stack.dispatcher()
    doomed = stack.worker(concurrency=4)
    again, once = create_sleepers(stack)
    trigger(stack, (again, 2), (once, 2))
    running = "select count(*) from tasks_app_run where state = 'running'"
    stack.wait_for("four running runs", lambda: stack.value(running) == 4, 20)
    survivor = stack.worker(concurrency=4)
    sleepers = [p for p in psutil.Process(doomed.process.pid).children(recursive=True) if p.name() == "sleep"]
    assert len(sleepers) == 4
    died = time.monotonic()
    doomed.kill()
    recovered = f"""select count(*) filter (where state = 'lost' and task_id = {once}) = 2
        and count(*) filter (where state = 'running' and attempt = 2 and task_id = {again}) = 2 from tasks_app_run"""
    stack.wait_for("both outcomes", lambda: stack.value(recovered), RECOVERY_SECONDS)
    seconds = time.monotonic() - died
    assert seconds < RECOVERY_SECONDS
    _gone, alive = psutil.wait_procs(sleepers, timeout=5)
    assert alive == []
    assert stack.value("select count(*) from workers_app_worker where state = 'lost'") == 1
    assert survivor.process.poll() is None
    say(capsys, f"2 rerun and 2 recorded lost {seconds:.1f} s after kill -9 of their worker")


def test_what_is_asked_for_while_the_broker_is_away_runs_once_when_it_is_back(stack, capsys):
    away = 60 if LONG else 6
    with Proxy(RABBITMQ.url(), 5672) as proxy:
        for _ in range(2):
            stack.dispatcher(CELERY_BROKER_URL=proxy.url)
            stack.worker(concurrency=4, CELERY_BROKER_URL=proxy.url)
        task = create_task(stack, "noop", "callable", "workers_app.samples.noop")
        trigger(stack, (task, 20))
        done = "select count(*) from tasks_app_run where state = 'succeeded'"
        stack.wait_for("the runs before", lambda: stack.value(done) == 20, 20)
        proxy.cut()
        trigger(stack, (task, 200))
        time.sleep(away)
        assert stack.value(done) == 20
        proxy.restore()
        back = time.monotonic()
        stack.wait_for("the runs meanwhile", lambda: stack.value(done) == 220, RECOVERY_SECONDS)
        say(capsys, f"200 runs done {time.monotonic() - back:.1f} s after a broker away for {away} s came back")


def test_runs_whose_messages_were_purged_are_announced_again(stack):
    from kombu import Connection

    stack.dispatcher()
    task = create_task(stack, "noop", "callable", "workers_app.samples.noop")
    trigger(stack, (task, 300))
    queued = "select count(*) from tasks_app_run where state = 'queued'"
    stack.wait_for("queued runs", lambda: stack.value(queued) == 300, 20)
    with Connection(RABBITMQ.url()) as connection:
        assert connection.default_channel.queue_purge(f"{stack.prefix}.default") > 0
    stack.worker(concurrency=4)
    done = "select count(*) from tasks_app_run where state = 'succeeded'"
    stack.wait_for("all runs", lambda: stack.value(done) == 300, RECOVERY_SECONDS)


def test_a_worker_told_to_stop_lets_its_runs_end_and_leaves_the_rest_to_others(stack):
    stack.dispatcher()
    leaving = stack.worker(concurrency=4)
    task = create_task(stack, "nap", "shell", "sleep 2; echo done")
    trigger(stack, (task, 8))
    stack.wait_for(
        "running runs", lambda: stack.value("select count(*) from tasks_app_run where state = 'running'") == 4, 20
    )
    leaving.process.send_signal(signal.SIGTERM)
    stack.worker(concurrency=4)
    done = "select count(*) from tasks_app_run where state = 'succeeded' and attempt = 1"
    stack.wait_for("all runs at their first attempt", lambda: stack.value(done) == 8, RECOVERY_SECONDS)
    stack.wait_for("the end of the worker", lambda: leaving.process.poll() is not None, 20)
    assert stack.value("select count(*) from workers_app_worker where state = 'offline'") == 1
    assert stack.value("select count(distinct worker_id) from tasks_app_run") == 2


@pytest.mark.long
def test_a_worker_frozen_past_its_lease_ends_itself_and_overwrites_nothing(stack):
    stack.dispatcher()
    lease = {} if LONG else {"SCHEDULER_LEASE_SECONDS": "4", "SCHEDULER_HEARTBEAT_SECONDS": "1"}
    zombie = stack.worker(concurrency=2, **lease)
    # Only the second attempt ends by itself, and not before the zombie has had its say.
    command = f"[ $SCHEDULER_ATTEMPT = 1 ] && exec sleep 300; exec sleep {40 if LONG else 8}"
    task = create_task(stack, "again", "shell", command, retry_on_lost=True)
    trigger(stack, (task, 1))
    stack.wait_for("a running run", lambda: stack.value("select state from tasks_app_run") == "running", 20)
    stack.worker(concurrency=2)
    zombie.freeze()
    frozen = time.monotonic()
    moved = "select state = 'running' and attempt = 2 from tasks_app_run"
    stack.wait_for("the second attempt", lambda: stack.value(moved), RECOVERY_SECONDS)
    time.sleep(max(frozen + 40 - time.monotonic(), 0) if LONG else 0)
    zombie.thaw()
    stack.wait_for("the end of the zombie", lambda: zombie.process.poll() is not None, 15)
    assert zombie.process.returncode == 70
    stack.wait_for("the end of the run", lambda: stack.value("select state from tasks_app_run") == "succeeded", 50)
    assert stack.value("select attempt from tasks_app_run") == 2
