"""The pages of access: users, groups, and the roles in a project."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from access_app.actors import user_actor
from access_app.roles import grant, role_in
from tasks_app.models import Project

PASSWORD = "three blind mice ran"
USER = {"username": "dora", "is_active": "on"}


@pytest.fixture
def as_root(root_user: Any) -> Client:
    client = Client()
    client.force_login(root_user)
    return client


def test_an_administrator_sees_all_users_with_their_roles_by_project_and_by_group(
    as_root, alice, bob, charlie, project
):
    group = Group.objects.create(name="night shift")
    group.user_set.add(charlie)
    grant(group, "viewer", Project.objects.create(name="billing"))
    page = as_root.get("/access/")
    assert page.status_code == 200
    rows = {str(user): roles for user, roles in page.context["users"]}
    assert rows["alice"] == [("analytics", "admin", "")] and rows["bob"] == [("analytics", "operator", "")]
    assert rows["charlie"] == [("billing", "viewer", "night shift")] and rows["root"] == []
    matrix = {str(row): [[one.name for one in cell] for cell in cells] for row, cells in page.context["rows"]}
    assert matrix["analytics"] == [["alice"], [], ["bob"], []]
    assert matrix["billing"] == [[], [], [], ["night shift"]]
    assert [str(user) for user, _roles in as_root.get("/access/?username=ali").context["users"]] == ["alice"]


def test_an_administrator_of_a_project_sees_and_gives_the_roles_of_that_project_alone(as_alice, charlie, project):
    other = Project.objects.create(name="elsewhere")
    page = as_alice.get("/access/")
    assert [row for row, _cells in page.context["rows"]] == [project]
    assert "elsewhere" not in page.text and "users" not in page.context
    assert as_alice.get(f"/access/projects/{other.pk}/").status_code == 404
    given = {"kind": "user", "name": "charlie", "role": "editor"}
    assert as_alice.post(f"/access/projects/{other.pk}/", given).status_code == 404
    assert as_alice.post(f"/access/projects/{project.pk}/", given).status_code == 302
    assert role_in(user_actor(charlie), project.pk) == "editor"
    taken = {"kind": "user", "holder": charlie.pk}
    assert as_alice.post(f"/access/projects/{project.pk}/revoke", taken).status_code == 302
    assert role_in(user_actor(charlie), project.pk) is None


@pytest.mark.parametrize("address", ["/access/", "/access/users/new", "/access/groups/new"])
def test_who_gives_no_roles_has_no_such_page(as_bob, as_charlie, address):
    for person in (as_bob, as_charlie):
        assert person.get(address).status_code == 403
        assert person.post(address, USER).status_code == 403
        assert 'href="/access/"' not in person.get("/tasks/").text
    assert not User.objects.filter(username="dora").exists()


def test_an_administrator_of_a_project_makes_no_users(as_alice, alice, bob):
    assert as_alice.post("/access/users/new", USER).status_code == 403
    for address in (f"/access/users/{bob.pk}/", f"/access/users/{bob.pk}/invite"):
        assert as_alice.post(address, {**USER, "is_superuser": "on"}).status_code == 403
    assert not User.objects.filter(is_superuser=True).exists() and User.objects.count() == 2


def test_a_name_that_nobody_has_is_said_at_the_field(as_alice, project):
    for kind in ("user", "group"):
        page = as_alice.post(f"/access/projects/{project.pk}/", {"kind": kind, "name": "nobody", "role": "viewer"})
        assert page.status_code == 422 and "name" in page.context["form"].errors


def test_a_user_is_made_changed_invited_and_put_out(as_root):
    assert as_root.post("/access/users/new", {**USER, "email": "dora@example.org"}).status_code == 302
    dora = User.objects.get(username="dora")
    assert dora.is_active and not dora.is_superuser and not dora.has_usable_password()
    page = as_root.post(f"/access/users/{dora.pk}/invite")
    link = page.context["link"]
    assert link in page.text and link not in as_root.get(f"/access/users/{dora.pk}/").text
    assert Client().post(link.removeprefix("http://testserver"), {"password": PASSWORD}).status_code == 302
    group = Group.objects.create(name="ops")
    as_root.post(f"/access/users/{dora.pk}/", {**USER, "email": "", "groups": [group.pk]})
    dora.refresh_from_db()
    assert dora.email == "" and list(dora.groups.all()) == [group] and dora.check_password(PASSWORD)
    as_root.post(f"/access/users/{dora.pk}/", {"username": "dora", "groups": [group.pk]})
    dora.refresh_from_db()
    assert not dora.is_active


def test_the_last_administrator_is_told_why_it_stays(as_root, root_user):
    page = as_root.post(f"/access/users/{root_user.pk}/", {"username": "root", "is_active": "on", "is_staff": "on"})
    assert page.status_code == 422 and "Nobody would be left to administer" in page.text
    root_user.refresh_from_db()
    assert root_user.is_superuser


def test_a_group_is_made_filled_and_deleted(as_root, bob, charlie):
    assert as_root.post("/access/groups/new", {"name": "ops", "members": "bob\ncharlie"}).status_code == 302
    group = Group.objects.get(name="ops")
    assert set(group.user_set.all()) == {bob, charlie}
    page = as_root.post(f"/access/groups/{group.pk}/", {"name": "ops", "members": "bob nobody"})
    assert page.status_code == 422 and "members" in page.context["form"].errors
    as_root.post(f"/access/groups/{group.pk}/", {"name": "ops two", "members": "bob"})
    group.refresh_from_db()
    assert group.name == "ops two" and list(group.user_set.all()) == [bob]
    assert as_root.post(f"/access/groups/{group.pk}/delete").status_code == 302
    assert not Group.objects.exists()


def test_an_invitation_page_tells_nothing_about_who_exists(db):
    page = Client().get("/invitation/MQ/c5x-000000/")
    assert page.status_code == 404 and "not good any more" in page.text
