"""`manage.py revoke_role`: the door by which roles are taken again."""

from __future__ import annotations

import pytest

from access_app.actors import user_actor
from access_app.grants import grant_role, revoke_role
from access_app.models import AuditEntry
from access_app.roles import Role, role_in
from tasks_app.errors import NotFound, PermissionRefused, WrongState
from tasks_app.models import Project
from tasks_app.queries import tasks_visible_to
from tests.tasks_app.command_line import ACTOR, make_task, refused, run_command
from tests.tasks_app.making import NOW


def role_of(user, project: Project) -> str | None:
    return role_in(user_actor(type(user).objects.get(pk=user.pk)), project.pk)


def test_a_user_loses_the_role_there_and_nobody_else_and_nowhere_else(bob, charlie, project):
    other = Project.objects.create(name="other")
    for where in (project, other):
        grant_role(ACTOR, charlie, Role.EDITOR, where, now=NOW)
    make_task(project="analytics")
    said = run_command("revoke_role", "charlie", "--project", "analytics")
    assert "charlie is no longer editor in analytics" in said
    assert (role_of(charlie, project), role_of(charlie, other), role_of(bob, project)) == (None, "editor", "operator")
    assert not tasks_visible_to(user_actor(type(charlie).objects.get(pk=charlie.pk))).exists()
    entry = AuditEntry.objects.order_by("-id")[0]
    assert (entry.verb, entry.object_name) == ("revoke", "analytics")
    assert (entry.before, entry.after) == ({"user": "charlie", "role": "editor"}, None)


@pytest.mark.parametrize(
    ("user", "where", "exit_code"), [("nobody", "analytics", 2), ("charlie", "nowhere", 2), ("charlie", "analytics", 2)]
)
def test_where_there_is_no_role_to_take_it_says_so(charlie, project, user, where, exit_code):
    assert refused("revoke_role", user, "--project", where).returncode == exit_code
    assert not AuditEntry.objects.exists()


def test_a_role_is_taken_by_an_administrator_of_the_project_alone(alice, bob, charlie, project):
    for asker, error in ((bob, PermissionRefused), (charlie, NotFound)):
        with pytest.raises(error):
            revoke_role(user_actor(asker), bob, project, now=NOW)
    with pytest.raises(WrongState):
        revoke_role(user_actor(alice), charlie, project, now=NOW)
    assert revoke_role(user_actor(alice), bob, project, now=NOW) == "operator"
    assert role_of(bob, project) is None
