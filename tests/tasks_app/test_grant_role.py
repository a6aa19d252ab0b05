"""`manage.py grant_role`: the door by which people come to their roles."""

from __future__ import annotations

import pytest

from access_app.actors import user_actor
from access_app.grants import grant_role
from access_app.models import AuditEntry
from access_app.roles import Role, role_in
from tasks_app.errors import InvalidInput, NotFound, PermissionRefused
from tests.tasks_app.command_line import refused, run_command
from tests.tasks_app.making import NOW


def test_a_user_gets_exactly_this_role_there_and_none_elsewhere(bob, charlie, project, django_user_model):
    assert "charlie is editor in analytics" in run_command("grant_role", "charlie", "editor", "--project", "analytics")
    assert (role_in(user_actor(charlie), project.pk), role_in(user_actor(bob), project.pk)) == ("editor", "operator")
    run_command("grant_role", "charlie", "viewer", "--project", "analytics")
    fresh = django_user_model.objects.get(pk=charlie.pk)
    assert role_in(user_actor(fresh), project.pk) == "viewer"
    entries = AuditEntry.objects.order_by("id").values_list("verb", "object_name", "after")
    assert list(entries) == [
        ("grant", "analytics", {"user": "charlie", "role": "editor"}),
        ("grant", "analytics", {"user": "charlie", "role": "viewer"}),
    ]


@pytest.mark.parametrize("arguments", [("nobody", "viewer", "analytics"), ("charlie", "viewer", "nowhere")])
def test_a_role_of_nobody_or_nowhere_is_refused(charlie, project, arguments):
    user, role, where = arguments
    assert refused("grant_role", user, role, "--project", where).returncode == 2
    assert not AuditEntry.objects.exists()


def test_a_role_is_given_by_an_administrator_of_the_project_alone(alice, bob, charlie, project):
    for asker, error in ((bob, PermissionRefused), (charlie, NotFound)):
        with pytest.raises(error):
            grant_role(user_actor(asker), charlie, Role.VIEWER, project, now=NOW)
    with pytest.raises(InvalidInput):
        grant_role(user_actor(alice), charlie, "god", project, now=NOW)
    grant_role(user_actor(alice), charlie, Role.VIEWER, project, now=NOW)
    assert AuditEntry.objects.count() == 1
