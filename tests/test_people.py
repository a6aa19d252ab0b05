"""The three people that access tests rely on really are what they are called."""

from __future__ import annotations

import pytest

from access_app.actors import user_actor
from access_app.errors import NotFound, PermissionRefused
from access_app.roles import Verb, require


def test_the_owner_may_manage_the_team_mate_may_run_and_the_stranger_sees_nothing(project, alice, bob, charlie):
    require(user_actor(alice), Verb.MANAGE, project.pk)
    require(user_actor(bob), Verb.RUN, project.pk)
    with pytest.raises(PermissionRefused):
        require(user_actor(bob), Verb.EDIT, project.pk)
    with pytest.raises(NotFound):
        require(user_actor(charlie), Verb.VIEW, project.pk)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", [1, 2])
def test_emptying_the_tables_leaves_the_default_project_and_pool(turn):
    from tasks_app.models import Pool, Project

    assert list(Project.objects.values_list("name", flat=True)) == ["default"]
    assert list(Pool.objects.values_list("name", flat=True)) == ["default"]


@pytest.mark.postgresql
def test_a_second_connection_holds_a_lock_that_the_first_one_meets(second_connection):
    from django.db import transaction

    from tasks_app.models import Project

    second_connection.execute("select id from tasks_app_project where name = 'default' for update")
    with transaction.atomic():
        assert not Project.objects.select_for_update(skip_locked=True).filter(name="default").exists()
    second_connection.rollback()
    with transaction.atomic():
        assert Project.objects.select_for_update(skip_locked=True).filter(name="default").exists()


def test_a_thread_sees_what_was_committed(in_thread):
    from tasks_app.models import Project

    Project.objects.create(name="committed")
    assert in_thread(Project.objects.filter(name="committed").exists).result(timeout=10)
