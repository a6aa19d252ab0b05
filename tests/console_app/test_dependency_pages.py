"""Dependencies in the console: the picture around a task, the forms of its edges, and a firing run again."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from access_app.actors import system_actor
from console_app.graph_picture import BOX_WIDTH, GAP_X, draw
from console_app.period_words import period_words
from tasks_app import graph
from tasks_app.models import Project, Run, Task, TaskDependency
from tasks_app.services import dependencies
from tasks_app.states import RunState
from tests.console_app.factories import make_run, make_task
from tests.tasks_app.making import bring

HOSTILE = "<script>alert(1)</script>"
PLAIN = {"condition": "", "period": "", "period_back": "0", "period_policy": "wait"}


def join(upstream: Task, downstream: Task, **fields: Any) -> TaskDependency:
    return dependencies.create(system_actor(), upstream, downstream, fields, now=timezone.now())


@pytest.fixture
def three(project) -> tuple[Task, Task, Task]:
    return make_task(project, "extract"), make_task(project, "transform"), make_task(project, "load")


# The task's page


def test_the_page_of_a_task_shows_what_lies_around_it(as_alice, project, three):
    a, b, c = three
    far, further = make_task(project, "far"), make_task(project, "further")
    join(a, b, condition="output.rows > 0")
    join(b, c, period="day", period_back=1)
    join(c, far), join(far, further)
    page = as_alice.get(f"/tasks/{b.pk}/").text
    assert "if</span> <code>output.rows &gt; 0</code>" in page
    assert "last run of the day before" in page
    assert f'href="/tasks/{far.pk}/"' in page and f'href="/tasks/{further.pk}/"' not in page
    assert "Two edges far in each direction" in page
    assert page.count('class="node') == 4
    whole = as_alice.get(f"/tasks/{c.pk}/").text
    assert f'href="/tasks/{further.pk}/"' in whole and "Two edges far in each direction" not in whole
    alone = as_alice.get(f"/tasks/{make_task(project, 'alone').pk}/").text
    assert "It waits for no other task" in alone and "<svg class=" not in alone


def test_only_editors_are_offered_to_change_edges(as_alice, as_bob, three):
    a, b, _c = three
    edge = join(a, b)
    for client, offered in ((as_alice, True), (as_bob, False)):
        page = client.get(f"/tasks/{b.pk}/").text
        assert (f"/dependencies/{edge.pk}/edit" in page) is offered
        assert (f"/tasks/{b.pk}/dependencies/new" in page) is offered
    for path in (f"/tasks/{b.pk}/dependencies/new", f"/dependencies/{edge.pk}/edit"):
        assert as_bob.get(path).status_code == 403
    as_bob.post(f"/dependencies/{edge.pk}/delete")
    assert TaskDependency.objects.exists()


def test_what_lies_in_a_foreign_project_is_not_shown(as_alice, as_charlie, three):
    a, _b, _c = three
    hidden = make_task(Project.objects.create(name="foreign"), "secret sauce")
    edge = join(a, hidden)
    assert "secret sauce" not in as_alice.get(f"/tasks/{a.pk}/").text
    assert as_alice.get(f"/dependencies/{edge.pk}/edit").status_code == 404
    assert as_charlie.get(f"/tasks/{a.pk}/dependencies/new").status_code == 404


def test_the_page_asks_as_often_for_a_wide_graph_as_for_a_small_one(as_alice, project, django_assert_max_num_queries):
    root = make_task(project, "root")
    for number in range(30):
        join(root, make_task(project, f"leaf {number}"))
    with django_assert_max_num_queries(30):
        assert as_alice.get(f"/tasks/{root.pk}/").text.count('class="node') == 31


# The picture


def test_every_box_stands_right_of_those_it_waits_for(three, project):
    a, b, c = three
    late = make_task(project, "late source with a name that is too long for its box")
    join(a, b), join(b, c), join(late, c), join(a, c)
    join(c, a, period="day", period_back=1)
    found = graph.around(system_actor(), a.pk, most=60)
    picture = draw(found, a.pk, {b.pk: "failed"})
    boxes = {box.task_id: box for box in picture.boxes}
    step = BOX_WIDTH + GAP_X
    assert [boxes[t.pk].x // step for t in (a, b, c, late)] == [0, 1, 2, 1]
    assert len({(box.x, box.y) for box in picture.boxes}) == 4
    assert all(box.x + BOX_WIDTH <= picture.width and box.y < picture.height for box in picture.boxes)
    assert boxes[late.pk].short_name.endswith("…") and boxes[late.pk].name == late.name
    assert boxes[b.pk].look is not None and boxes[a.pk].look is None
    assert [line.mark for line in picture.lines].count("◷") == 1


def test_no_mark_hides_another(project):
    ups = [make_task(project, f"up {number}") for number in range(4)]
    downs = [make_task(project, f"down {number}") for number in range(4)]
    for up in ups:
        for down in downs[:2] if up is ups[0] else downs[2:]:
            join(up, down, condition="output.ok")
    picture = draw(graph.around(system_actor(), ups[1].pk, most=60), ups[1].pk, {})
    places = [(line.x, line.y) for line in picture.lines]
    assert len(places) == len(set(places)) == 6


def test_a_way_back_has_a_lane_of_its_own_below_all_boxes(three):
    a, b, c = three
    join(a, b), join(b, c)
    join(c, a, period="day", period_back=1), join(b, a, period="day", period_back=2)
    picture = draw(graph.around(system_actor(), a.pk, most=60), a.pk, {})
    lowest = max(box.y for box in picture.boxes) + 32
    lanes = [line.y for line in picture.lines if line.is_period]
    assert len(set(lanes)) == 2 and all(lowest < lane < picture.height for lane in lanes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ""),
        ({"period": "hour"}, "last run of the same hour"),
        ({"period": "week", "period_back": 1}, "last run of the week before"),
        ({"period": "month", "period_back": 3, "period_policy": "fail"}, "last run of 3 months before, fails without"),
    ],
)
def test_a_period_in_words(fields, words):
    assert period_words(TaskDependency(**fields)).startswith(words)
    assert bool(period_words(TaskDependency(**fields))) is bool(words)


# The forms


@pytest.mark.parametrize(("side", "ends"), [("upstream", ("load", "extract")), ("downstream", ("extract", "load"))])
def test_an_edge_is_added_on_either_side(as_alice, three, side, ends):
    a, _b, _c = three
    typed = {**PLAIN, "side": side, "other": "load", "condition": "output.ok"}
    assert as_alice.post(f"/tasks/{a.pk}/dependencies/new", typed)["Location"] == f"/tasks/{a.pk}/"
    edge = TaskDependency.objects.get()
    assert (edge.upstream.name, edge.downstream.name, edge.condition, edge.period) == (*ends, "output.ok", "")


def test_the_link_says_which_side_is_meant(as_alice, three):
    form = as_alice.get(f"/tasks/{three[0].pk}/dependencies/new?side=downstream").context["form"]
    assert form["side"].value() == "downstream"
    assert as_alice.get(f"/tasks/{three[0].pk}/dependencies/new").context["form"]["side"].value() == "upstream"


@pytest.mark.parametrize(
    ("typed", "field", "words"),
    [
        ({"other": "nothing"}, "other", "no task of this name"),
        ({"other": HOSTILE}, "other", "no task of this name"),
        ({"other": "transform"}, "other", "exists already"),
        ({"condition": "output.rows >"}, "condition", "At character 14"),
        ({"condition": "output.ok", "period": "day"}, "condition", "takes no condition"),
        ({"period": "year"}, "period", "Select a valid choice"),
        ({"period_back": "2"}, "period_back", "choose one"),
        ({"period": "day", "period_back": "101"}, "period_back", "0 to 100"),
        ({"other": "extract"}, "__all__", "extract → extract"),
    ],
)
def test_what_is_wrong_with_an_edge_is_said_at_its_field(as_alice, three, typed, field, words):
    a, b, _c = three
    join(b, a)
    response = as_alice.post(f"/tasks/{a.pk}/dependencies/new", {**PLAIN, "side": "upstream", "other": "load", **typed})
    assert response.status_code == 422
    errors = response.context["form"].errors
    assert list(errors) == [field] and words in str(errors[field])
    assert HOSTILE not in response.text
    assert TaskDependency.objects.count() == 1


def test_a_name_means_the_task_of_the_own_project_first(as_alice, alice, three, project):
    from access_app.roles import grant

    other = Project.objects.create(name="other")
    grant(alice, "editor", other)
    foreign, only_there = make_task(other, "load"), make_task(other, "elsewhere")
    for name in ("load", "elsewhere"):
        as_alice.post(f"/tasks/{three[0].pk}/dependencies/new", {**PLAIN, "side": "downstream", "other": name})
    assert set(TaskDependency.objects.values_list("downstream", flat=True)) == {three[2].pk, only_there.pk}
    assert foreign.pk not in TaskDependency.objects.values_list("downstream", flat=True)


def test_an_edge_is_changed_and_removed(as_alice, three):
    a, b, c = three
    edge, other = join(a, b), join(b, c)
    path = f"/dependencies/{edge.pk}"
    typed = {"condition": "", "period": "week", "period_back": "1", "period_policy": "fail"}
    assert as_alice.post(f"{path}/edit", typed)["Location"] == f"/tasks/{b.pk}/"
    edge.refresh_from_db()
    assert (edge.period, edge.period_back, edge.period_policy) == ("week", 1, "fail")
    assert 'value="week" selected' in as_alice.get(f"{path}/edit").text
    assert as_alice.get(f"{path}/delete").status_code == 405
    assert as_alice.post(f"{path}/delete")["Location"] == f"/tasks/{b.pk}/"
    assert list(TaskDependency.objects.all()) == [other]


def test_a_change_that_closes_a_cycle_is_refused_with_the_path(as_alice, three):
    a, b, _c = three
    join(a, b)
    back = join(b, a, period="day", period_back=1)
    response = as_alice.post(f"/dependencies/{back.pk}/edit", {**PLAIN, "period": "day"})
    assert response.status_code == 422 and "would wait for each other" in response.text
    back.refresh_from_db()
    assert back.period_back == 1


# Run again from the failed point


def failed_firing(three: tuple[Task, Task, Task]) -> tuple[Run, Run]:
    a, b, _c = three
    join(a, b)
    root = make_run(a, RunState.SUCCEEDED)
    below = Run.objects.get(root=root)
    return root, below


def test_a_failed_firing_is_run_again_from_the_page_of_any_of_its_runs(as_bob, three):
    root, below = failed_firing(three)
    said = "Run again from the failed point"
    assert said not in as_bob.get(f"/runs/{root.pk}/").text
    bring(below.pk, RunState.FAILED)
    assert said in as_bob.get(f"/runs/{root.pk}/").text and said in as_bob.get(f"/runs/{below.pk}/").text
    response = as_bob.post(f"/runs/{root.pk}/rerun-failed", follow=True)
    again = Run.objects.get(rerun_of=below)
    assert response.redirect_chain[-1][0] == f"/runs/{again.pk}/"
    assert f"Runs planned anew: 1; #{again.pk} is the first of them." in response.text
    assert f"see run #{again.pk}" in as_bob.post(f"/runs/{root.pk}/rerun-failed", follow=True).text


def test_who_may_run_nothing_is_not_offered_it(as_bob, bob, project, three):
    from access_app.roles import grant

    root, below = failed_firing(three)
    bring(below.pk, RunState.FAILED)
    grant(bob, "viewer", project)
    assert "failed point" not in as_bob.get(f"/runs/{root.pk}/").text
    assert "Your role does not allow this" in as_bob.post(f"/runs/{root.pk}/rerun-failed", follow=True).text
    assert Run.objects.count() == 2


def test_the_page_of_a_run_names_the_periods_it_waits_for(as_alice, three):
    a, b, _c = three
    join(a, b, period="day")
    run = make_run(b)
    page = as_alice.get(f"/runs/{run.pk}/").text
    assert "By period" in page and f'href="/tasks/{a.pk}/">extract' in page and "waits" in page
    Task.objects.filter(pk=a.pk).update(project=Project.objects.create(name="foreign"))
    assert "another task" in as_alice.get(f"/runs/{run.pk}/").text
