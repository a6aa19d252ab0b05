"""Roles: looked up once for each asker."""

from __future__ import annotations

import pytest

from access_app.actors import user_actor
from access_app.roles import Verb, project_ids_with


@pytest.mark.parametrize(("verb", "found"), [(Verb.VIEW, True), (Verb.EDIT, False)])
def test_the_projects_of_an_actor_are_asked_for_once(bob, project, django_assert_num_queries, verb, found):
    operator, expected = user_actor(bob), [project.pk] if found else []
    project_ids_with(operator, Verb.RUN)
    assert project_ids_with(operator, verb) == expected
    with django_assert_num_queries(0):
        assert project_ids_with(operator, verb) == expected
