"""The admin pages of users, groups and the roles in a project."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.urls import reverse

from access_app.actors import user_actor
from access_app.models import AuditEntry
from access_app.roles import role_in
from tasks_app.models import Project
from tests.tasks_app.admin_pages import errors_of, page

pytestmark = pytest.mark.django_db
PASSWORD = "three blind mice ran"


@pytest.fixture
def root(client, root_user):
    client.force_login(root_user)
    return client


def test_a_user_is_made_and_changed_through_the_service(root, root_user):
    form = {"username": "dora", "is_active": "on", "new_password": PASSWORD, "is_staff": "on"}
    assert root.post(page(User, "add"), form).status_code == 302
    dora = User.objects.get(username="dora")
    assert dora.check_password(PASSWORD) and dora.is_staff and not dora.is_superuser
    assert AuditEntry.objects.get(verb="create", object_type="user").actor == "user root"
    group = Group.objects.create(name="ops")
    root.post(page(User, "change", dora.pk), {"username": "dora", "is_active": "on", "groups": [group.pk]})
    dora.refresh_from_db()
    assert list(dora.groups.all()) == [group] and dora.check_password(PASSWORD) and not dora.is_staff


def test_a_weak_password_and_the_last_administrator_are_refused_at_the_form(root, root_user):
    assert "new_password" in errors_of(root.post(page(User, "add"), {"username": "dora", "new_password": "short"}))
    form = {"username": "root", "is_active": "on", "is_staff": "on"}
    assert "__all__" in errors_of(root.post(page(User, "change", root_user.pk), form))
    root_user.refresh_from_db()
    assert root_user.is_superuser


def test_a_user_is_not_deleted_here(root, alice):
    assert root.post(page(User, "delete", alice.pk), {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=alice.pk).exists()


def test_a_group_is_made_and_deleted_through_the_service(root, alice):
    assert root.post(page(Group, "add"), {"name": "ops", "members": [alice.pk]}).status_code == 302
    group = Group.objects.get(name="ops")
    assert list(group.user_set.all()) == [alice]
    root.post(page(Group, "change", group.pk), {"name": "ops", "members": []})
    assert group.user_set.count() == 0
    assert root.post(page(Group, "delete", group.pk), {"post": "yes"}).status_code == 302
    assert AuditEntry.objects.filter(object_type="group").count() == 3


def test_staff_with_every_permission_of_django_make_nobody_an_administrator(client, alice):
    from django.contrib.auth.models import Permission

    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    alice.user_permissions.set(Permission.objects.all())
    client.force_login(alice)
    for kind in (User, Group):
        assert client.get(page(kind, "changelist")).status_code == 403
        assert client.get(page(kind, "add")).status_code == 403
    form = {"username": "alice", "is_active": "on", "is_superuser": "on"}
    assert client.post(page(User, "change", alice.pk), form).status_code == 403
    alice.refresh_from_db()
    assert not alice.is_superuser


def test_the_page_of_a_project_gives_and_takes_roles(client, alice, bob, charlie, project):
    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    client.force_login(alice)
    address, other = page(Project, "change", project.pk), Project.objects.create(name="other")
    given = {"user": "charlie", "role": "viewer"}
    assert client.post(page(Project, "change", other.pk), given).status_code == 302
    assert role_in(user_actor(charlie), other.pk) is None
    assert client.post(address, {**given, "take": [f"False:{bob.pk}"]}).status_code == 302
    assert role_in(user_actor(charlie), project.pk) == "viewer" and role_in(user_actor(bob), project.pk) is None
    assert "role" in errors_of(client.post(address, {"user": "charlie"}))
    assert errors_of(client.post(address, {"user": "nobody", "role": "viewer"}))
    project.refresh_from_db()
    assert project.name == "analytics"


def test_a_password_is_changed_where_it_is_audited(root):
    assert root.get("/admin/password_change/")["Location"] == reverse("console:own_password")
