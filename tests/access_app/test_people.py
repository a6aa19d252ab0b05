"""Users and groups: who makes them, what ends with them, and that somebody is always left to administer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.test import Client

from access_app import invitations, people, services
from access_app.actors import Actor, system_actor, user_actor
from access_app.errors import InvalidInput, LastAdministrator, NotFound, PermissionRefused, WrongState
from access_app.grants import grant_role, grants, revoke_role
from access_app.models import AuditEntry
from access_app.roles import Role, Verb, grant, require, role_in

NOW = datetime.now(UTC)
SYSTEM = system_actor()
PASSWORD = "three blind mice ran"


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def key_of(user: User) -> str:
    return services.create_key(SYSTEM, user, name="k", role="admin", expiry=None, now=NOW)[1]


def last_entry() -> AuditEntry:
    found = AuditEntry.objects.exclude(verb="refused").order_by("-pk").first()
    assert found is not None
    return found


@pytest.mark.parametrize("who", ["alice", "bob", "charlie"])
def test_nobody_but_an_administrator_of_the_installation_makes_users_or_groups(request, who, root_user):
    actor = user_actor(request.getfixturevalue(who))
    group = Group.objects.create(name="ops")
    for refused in (
        lambda: people.create_user(actor, {"username": "mallory", "is_superuser": True}, now=NOW),
        lambda: people.update_user(actor, actor.user, {"is_superuser": True}, now=NOW),
        lambda: people.create_group(actor, {"name": "mine"}, now=NOW),
        lambda: people.update_group(actor, group, {"members": [actor.user]}, now=NOW),
        lambda: people.delete_group(actor, group, now=NOW),
        lambda: invitations.invite(actor, root_user, now=NOW),
    ):
        with pytest.raises(PermissionRefused):
            refused()
    assert not people.users_visible_to(actor).exists() and not people.groups_visible_to(actor).exists()
    assert not User.objects.filter(username="mallory").exists() and group.user_set.count() == 0
    assert not AuditEntry.objects.exists()


def test_a_key_does_not_do_with_users_what_its_role_does_not_allow(root_user):
    with pytest.raises(PermissionRefused):
        people.create_user(Actor("key", user=root_user, role_cap=Role.EDITOR), {"username": "dora"}, now=NOW)
    assert people.create_user(user_actor(root_user), {"username": "dora"}, now=NOW).has_usable_password() is False


def test_a_new_user_signs_in_with_the_password_given_and_the_trail_does_not_hold_it(root_user, db):
    fields = {"username": "dora", "password": PASSWORD, "email": "dora@example.org"}
    user = people.create_user(user_actor(root_user), fields, now=NOW)
    assert Client().login(username="dora", password=PASSWORD)
    entry = last_entry()
    assert (entry.verb, entry.object_type, entry.object_id) == ("create", "user", str(user.pk))
    assert PASSWORD not in str(entry.after) and "dora@example.org" in str(entry.after)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"username": ""}, "username"),
        ({"username": "no spaces here"}, "username"),
        ({"username": "ROOT"}, "username"),
        ({"username": "dora", "email": "nowhere"}, "email"),
        ({"username": "dora", "password": "short"}, "password"),
        ({"username": "dora", "password": "x" * 501}, "password"),
    ],
)
def test_what_is_wrong_with_a_user_is_said_at_its_field(root_user, fields, field):
    with pytest.raises(InvalidInput) as refused:
        people.create_user(user_actor(root_user), fields, now=NOW)
    assert list(refused.value.errors) == [field]
    assert User.objects.count() == 1


def test_the_last_administrator_can_neither_be_put_out_nor_made_less(root_user, alice):
    alone = user_actor(root_user)
    for change in ({"is_active": False}, {"is_superuser": False}):
        with pytest.raises(LastAdministrator):
            people.update_user(alone, root_user, change, now=NOW)
        with pytest.raises(LastAdministrator):
            people.update_user(SYSTEM, root_user, change, now=NOW)
    root_user.refresh_from_db()
    assert root_user.is_active and root_user.is_superuser
    idle = User.objects.create_superuser("idle", is_active=False)
    with pytest.raises(LastAdministrator):
        people.update_user(alone, root_user, {"is_active": False}, now=NOW)
    people.update_user(alone, idle, {"is_active": True}, now=NOW)
    people.update_user(alone, root_user, {"is_superuser": False}, now=NOW)
    assert list(User.objects.filter(is_superuser=True, is_active=True)) == [idle]


@pytest.mark.postgresql
def test_two_administrators_who_put_each_other_out_at_once_leave_one(in_thread, transactional_db):
    from threading import Barrier

    one, two = User.objects.create_superuser("one"), User.objects.create_superuser("two")
    ready = Barrier(2)

    def put_out(actor: User, other: User) -> Any:
        ready.wait(10)
        try:
            return people.update_user(user_actor(actor), other, {"is_active": False}, now=NOW)
        except LastAdministrator as error:
            return error

    results = [call.result(timeout=20) for call in (in_thread(put_out, one, two), in_thread(put_out, two, one))]
    assert sum(isinstance(result, LastAdministrator) for result in results) == 1
    assert User.objects.filter(is_superuser=True, is_active=True).count() == 1


def test_whoever_is_put_out_is_signed_out_and_their_keys_are_refused_at_once(root_user, alice, bob):
    hers, his, key = client_of(alice), client_of(bob), key_of(alice)
    asks = Client(headers={"X-API-Key": key})
    assert hers.get("/tasks/").status_code == 200 and asks.get("/api/tasks").status_code == 200
    people.update_user(user_actor(root_user), alice, {"is_active": False}, now=NOW)
    assert hers.get("/tasks/").status_code == 302 and asks.get("/api/tasks").status_code == 401
    assert his.get("/tasks/").status_code == 200 and Session.objects.count() == 1
    assert last_entry().after == {"is_active": False}
    # Let in again, the old session stays ended: whoever had its cookie has nothing.
    people.update_user(user_actor(root_user), alice, {"is_active": True}, now=NOW)
    assert hers.get("/tasks/").status_code == 302


def test_a_new_password_ends_the_sessions_that_were_open_with_the_old_one(root_user, alice):
    hers = client_of(alice)
    people.update_user(user_actor(root_user), alice, {"password": PASSWORD}, now=NOW)
    assert hers.get("/tasks/").status_code == 302
    assert last_entry().after == {"password": "changed"}


def test_a_group_gives_its_role_to_every_member_for_as_long_as_they_are_in_it(root_user, charlie, project):
    root = user_actor(root_user)
    group = people.create_group(root, {"name": "ops", "members": [charlie]}, now=NOW)
    assert role_in(user_actor(charlie), project.pk) is None
    grant_role(SYSTEM, group, Role.OPERATOR, project, now=NOW)
    assert role_in(user_actor(charlie), project.pk) == Role.OPERATOR
    people.update_group(root, group, {"members": []}, now=NOW)
    assert role_in(user_actor(charlie), project.pk) is None
    assert last_entry().before == {"members": ["charlie"]} and last_entry().after == {"members": []}


def test_the_highest_role_counts_and_taking_ones_own_leaves_that_of_the_group(charlie, project):
    group = Group.objects.create(name="readers")
    group.user_set.add(charlie)
    grant_role(SYSTEM, group, Role.VIEWER, project, now=NOW)
    grant_role(SYSTEM, charlie, Role.EDITOR, project, now=NOW)
    assert role_in(user_actor(charlie), project.pk) == Role.EDITOR
    assert revoke_role(SYSTEM, charlie, project, now=NOW) == Role.EDITOR
    assert role_in(user_actor(charlie), project.pk) == Role.VIEWER
    with pytest.raises(WrongState):
        revoke_role(SYSTEM, charlie, project, now=NOW)
    assert revoke_role(SYSTEM, group, project, now=NOW) == Role.VIEWER
    assert role_in(user_actor(charlie), project.pk) is None


def test_a_deleted_group_takes_its_roles_with_it_and_leaves_its_members(root_user, charlie, project):
    group = Group.objects.create(name="ops")
    group.user_set.add(charlie)
    grant(group, Role.ADMIN, project)
    people.delete_group(user_actor(root_user), group, now=NOW)
    assert role_in(user_actor(charlie), project.pk) is None and User.objects.filter(pk=charlie.pk).exists()
    with pytest.raises(NotFound):
        people.delete_group(user_actor(root_user), group, now=NOW)


def test_nobody_gives_more_than_they_hold(alice, bob, charlie, project):
    with pytest.raises(PermissionRefused):
        grant_role(user_actor(bob), bob, Role.ADMIN, project, now=NOW)
    with pytest.raises(PermissionRefused):
        grant_role(Actor("key", user=alice, role_cap=Role.EDITOR), charlie, Role.VIEWER, project, now=NOW)
    with pytest.raises(NotFound):
        grant_role(user_actor(charlie), charlie, Role.VIEWER, project, now=NOW)
    grant_role(user_actor(alice), charlie, Role.ADMIN, project, now=NOW)
    require(user_actor(charlie), Verb.MANAGE, project.pk)


def test_grants_are_read_in_two_queries_however_many_there_are(project, alice, bob, django_assert_num_queries):
    for number in range(20):
        grant(Group.objects.create(name=f"g{number}"), Role.VIEWER, project)
    with django_assert_num_queries(2):
        found = grants([project.pk])
    assert [one.name for one in found][:2] == ["alice", "bob"] and len(found) == 22


def link_of(root: User, user: User) -> str:
    return invitations.invite(user_actor(root), user, now=NOW)


def test_an_invitation_sets_a_password_once_and_signs_in(root_user, db):
    user = people.create_user(user_actor(root_user), {"username": "dora"}, now=NOW)
    link, guest = link_of(root_user, user), Client()
    assert "dora" in guest.get(link).text
    assert guest.post(link, {"password": "short"}).status_code == 422
    assert guest.post(link, {"password": PASSWORD})["Location"] == "/"
    assert guest.get("/").status_code == 200
    assert (last_entry().verb, last_entry().actor) == ("accept", "user dora")
    again = Client().post(link, {"password": "another one of these"})
    assert again.status_code == 404 and Client().login(username="dora", password=PASSWORD)


def test_an_invitation_is_no_use_for_another_user_nor_for_one_who_was_put_out(root_user, alice, bob):
    link = link_of(root_user, alice)
    others = link_of(root_user, bob).split("/")[2]
    assert Client().get(link.replace(link.split("/")[2], others)).status_code == 404
    assert Client().get(link.replace(link.split("/")[2], "9999999999999999999999")).status_code == 404
    people.update_user(user_actor(root_user), alice, {"is_active": False}, now=NOW)
    assert Client().get(link).status_code == 404
    with pytest.raises(WrongState):
        link_of(root_user, User.objects.get(pk=alice.pk))


def test_an_invitation_ends_by_itself(root_user, alice, settings):
    link = link_of(root_user, alice)
    assert Client().get(link).status_code == 200
    settings.PASSWORD_RESET_TIMEOUT = -1
    assert Client().get(link).status_code == 404


def test_a_person_changes_the_own_password_only_with_the_old_one(alice):
    page = client_of(alice)
    assert page.post("/password/", {"old": "wrong", "new": PASSWORD}).status_code == 422
    assert page.post("/password/", {"old": "correct horse battery", "new": PASSWORD}).status_code == 302
    assert page.get("/").status_code == 200, "the session in which it was done goes on"
    assert Client().login(username="alice", password=PASSWORD)
    assert last_entry().after == {"password": "changed"}
