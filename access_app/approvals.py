"""Requests for approval: asked, decided by a second person, carried out exactly as they were stored."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from access_app import audit, stored_calls
from access_app.actors import Actor
from access_app.approval_models import ApprovalRequest, Kind
from access_app.errors import InvalidInput, NotFound, PermissionRefused, SchedulerError, StaleEdit, WrongState
from access_app.models import ApiKey
from access_app.roles import Verb, holds, project_ids_with, require, require_everywhere, visible_project_ids
from access_app.second_person import OPERATIONS, ApprovalRequired, opened, rehearsed

State = ApprovalRequest.State
# What one must be allowed to do oneself to decide.
VERBS = {Kind.RUN: Verb.RUN, Kind.EDIT: Verb.EDIT, Kind.SECRET: Verb.MANAGE_SECRETS, Kind.RULE: Verb.MANAGE}
LONGEST_COMMENT = 1000


class SelfApproval(PermissionRefused):
    """Nobody decides what they asked for themselves, by whatever key or group; ask a second person."""

    code = "self_approval"


class Outdated(SchedulerError):
    """What this is about was changed since it was asked for; look at it as it is now, and ask again."""

    code = "approval_outdated"
    status = 409


def ask(required: ApprovalRequired) -> ApprovalRequest:
    """Store the call that was held. The same call of the same person that is still pending is not asked for twice."""
    call, actor = required.call, required.call.actor
    told = json.dumps([call.operation.name, opened(call.payload)])
    seen = salted_hmac("access_app.approvals", told, algorithm="sha256")
    with transaction.atomic():
        pending = ApprovalRequest.objects.filter(
            requested_by=actor.user, state=State.PENDING, expires_at__gt=call.now, digest=seen.hexdigest()
        )
        if (found := pending.filter(versions=call.versions).first()) is not None:
            return found
        request = ApprovalRequest.objects.create(
            kind=call.operation.kind,
            operation=call.operation.name,
            project_id=call.place.project_id,
            object_type=call.target[0],
            object_id=call.target[1],
            object_name=call.target[2],
            payload=call.payload,
            digest=seen.hexdigest(),
            effects=call.effects,
            versions=call.versions,
            requested_by=actor.user,
            requester=actor.name[:200],
            key_id=actor.key_id,
            requested_at=call.now,
            expires_at=call.now + timedelta(hours=settings.SCHEDULER_APPROVAL_HOURS),
        )
        audit.append(actor, "ask", request, now=call.now, after=_told(request))
    return request


def requests_visible_to(actor: Actor) -> QuerySet[ApprovalRequest]:
    """One's own, and those of the projects that one sees."""
    rows = ApprovalRequest.objects.select_related("project", "requested_by", "decided_by")
    visible = visible_project_ids(actor)
    return rows if visible is None else rows.filter(Q(project__in=visible) | Q(requested_by=actor.user))


def waiting_for(actor: Actor, *, now: datetime) -> QuerySet[ApprovalRequest]:
    """The pending requests of others that the actor may decide."""
    rows = ApprovalRequest.objects.filter(state=State.PENDING, expires_at__gt=now).exclude(requested_by=actor.user)
    wanted = Q(pk=None)
    for kind, verb in VERBS.items():
        ids = project_ids_with(actor, verb)
        wanted |= Q(kind=kind) if ids is None else Q(kind=kind, project__in=ids)
    return rows.filter(wanted)


def to_review(actor: Actor) -> QuerySet[ApprovalRequest]:
    """What was done without a second person and nobody has reviewed yet, in the projects that the actor administers."""
    rows = ApprovalRequest.objects.filter(break_glass=True, reviewed_at=None).exclude(decided_by=actor.user)
    ids = project_ids_with(actor, Verb.MANAGE)
    return rows if ids is None else rows.filter(project__in=ids)


def shown_state(request: ApprovalRequest, now: datetime) -> str:
    """The state as it is now: `expired` for one that nobody decided in time."""
    return "expired" if request.state == State.PENDING and request.expires_at <= now else str(request.state)


def may_see_payload(actor: Actor, request: ApprovalRequest) -> bool:
    """Whether the actor may see what is asked for in full."""
    if actor.user is not None and actor.user == request.requested_by:
        return True
    return request.project_id is None or holds(actor, Verb.SEE_PARAMETERS, request.project_id)


def approve(actor: Actor, request: ApprovalRequest, *, comment: str = "", now: datetime) -> ApprovalRequest:
    """Let what was asked for be done, now, in the name of whoever asked.

    Raises SelfApproval, PermissionRefused where one could not do it oneself, WrongState where it is decided or expired,
    Outdated where its objects were changed meanwhile, and whatever the service itself refuses by now.
    """
    _require_decider(actor, request)
    return _carry_out(actor, request, {"comment": _comment(comment)}, "approve", now)


def break_glass(actor: Actor, request: ApprovalRequest, *, reason: str, now: datetime) -> ApprovalRequest:
    """Do it without a second person, for administrators of the project: it stays listed until another one reviews it.

    Raises as `approve`, InvalidInput without a reason.
    """
    _require_in(actor, Verb.MANAGE, request)
    if not (text := _comment(reason, "reason")).strip():
        raise InvalidInput(reason=_("Say why it cannot wait for a second person."))
    return _carry_out(actor, request, {"comment": text, "break_glass": True}, "break glass", now)


def deny(actor: Actor, request: ApprovalRequest, *, comment: str = "", now: datetime) -> ApprovalRequest:
    """Refuse what was asked for. Raises as `approve`."""
    _require_decider(actor, request)
    return _close(actor, request, State.DENIED, "deny", _comment(comment), now)


def cancel(actor: Actor, request: ApprovalRequest, *, now: datetime) -> ApprovalRequest:
    """Take back what one asked for oneself. Raises PermissionRefused, WrongState."""
    if actor.user != request.requested_by:
        raise PermissionRefused(_("Only whoever asked takes it back; others deny it."))
    return _close(actor, request, State.CANCELLED, "cancel", "", now)


def review(actor: Actor, request: ApprovalRequest, *, comment: str = "", now: datetime) -> ApprovalRequest:
    """Say that one has looked at what was done without a second person. Raises SelfApproval, WrongState."""
    _require_in(actor, Verb.MANAGE, request)
    if actor.is_system or actor.user in (request.decided_by, request.requested_by):
        raise SelfApproval
    values = {"reviewed_by": actor.user, "reviewer": actor.name[:200], "reviewed_at": now, "review": _comment(comment)}
    with transaction.atomic():
        open_ones = ApprovalRequest.objects.filter(pk=request.pk, break_glass=True, reviewed_at=None)
        if not open_ones.update(**values):
            raise WrongState(_("There is nothing to review here."))
        audit.append(actor, "review", request, now=now, after={"comment": values["review"]})
    return ApprovalRequest.objects.get(pk=request.pk)


def _carry_out(
    actor: Actor, request: ApprovalRequest, decision: dict[str, Any], verb: str, now: datetime
) -> ApprovalRequest:
    operation = OPERATIONS[request.operation]
    try:
        with transaction.atomic():
            locked = _locked(request, now)
            payload = opened(locked.payload)
            arguments = stored_calls.loaded(payload, operation.data)
            first = stored_calls.rows_in(arguments)[0]
            if operation.tag is None:
                # Held still, so that it is not changed between this look and what is done.
                list(type(first)._default_manager.select_for_update(no_key=True).filter(pk=first.pk).values_list("pk"))
            if stored_calls.versions(arguments) != locked.versions:
                raise Outdated
            requester = _requester(locked, actor, now)
            expected = {} if operation.tag is None else {"expected": operation.tag(first)}
            # In the rehearsal the one who decides is who asks: nobody lets happen what they could not do.
            rehearsed(operation, actor, {**arguments, **expected, "now": now})
            # Read again: the rehearsal has been at these objects.
            operation.service(requester, **{**stored_calls.loaded(payload, operation.data), **expected}, now=now)
            values = {**decision, "state": State.APPROVED, **_decider(actor, now), **_emptied(locked)}
            ApprovalRequest.objects.filter(pk=locked.pk).update(**values)
            audit.append(actor, verb, locked, now=now, after={**_told(locked), "comment": decision["comment"]})
    except (Outdated, StaleEdit, NotFound) as error:
        ApprovalRequest.objects.filter(pk=request.pk, state=State.PENDING).update(state=State.OUTDATED, decided_at=now)
        raise error if isinstance(error, Outdated) else Outdated() from error
    return ApprovalRequest.objects.get(pk=request.pk)


def _close(
    actor: Actor, request: ApprovalRequest, state: str, verb: str, comment: str, now: datetime
) -> ApprovalRequest:
    with transaction.atomic():
        locked = _locked(request, now)
        values = {"state": state, "comment": comment, **_decider(actor, now), **_emptied(locked)}
        ApprovalRequest.objects.filter(pk=locked.pk).update(**values)
        audit.append(actor, verb, locked, now=now, after={**_told(locked), "comment": comment})
    return ApprovalRequest.objects.get(pk=request.pk)


def _locked(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
    """Of two who decide at once, the second finds it decided. Raises WrongState."""
    locked = ApprovalRequest.objects.select_for_update(no_key=True).get(pk=request.pk)
    if (state := shown_state(locked, now)) != State.PENDING:
        raise WrongState(_("This request is %(state)s; ask again.") % {"state": state}, state=state)
    return locked


def _requester(request: ApprovalRequest, decider: Actor, now: datetime) -> Actor:
    """Whoever asked, with what they may do by now. Raises WrongState where that is nothing any more."""
    user, cap, scopes = request.requested_by, None, None
    if user is None or not user.is_active:
        raise WrongState(_("Whoever asked for this is no longer active."))
    if request.key_id is not None:
        key = ApiKey.objects.filter(pk=request.key_id).first()
        if key is None or (key.expiry is not None and key.expiry <= now):
            raise WrongState(_("The key that asked for this is not valid any more."))
        cap, scopes = key.role, frozenset(key.scopes) or None
    name = f"{request.requester}, approved by {decider.name}"[:200]
    address, request_id = decider.address, decider.request_id
    return Actor(name, user, cap, scopes, address=address, request_id=request_id, let_through=True)


def _require_decider(actor: Actor, request: ApprovalRequest) -> None:
    _require_in(actor, VERBS[Kind(request.kind)], request)
    if actor.is_system or actor.user == request.requested_by:
        raise SelfApproval


def _require_in(actor: Actor, verb: Verb, request: ApprovalRequest) -> None:
    if request.project_id is None:
        require_everywhere(actor, verb)
    else:
        require(actor, verb, request.project_id)


def _decider(actor: Actor, now: datetime) -> dict[str, Any]:
    return {"decided_by": actor.user, "decider": actor.name[:200], "decided_at": now}


def _emptied(request: ApprovalRequest) -> dict[str, Any]:
    return {"payload": {}} if request.kind == Kind.SECRET else {}


def _told(request: ApprovalRequest) -> dict[str, Any]:
    return {"operation": request.operation, "object": request.object_name, "asked by": request.requester}


def _comment(text: str, field: str = "comment") -> str:
    if len(text) > LONGEST_COMMENT or "\x00" in text:
        raise InvalidInput(**{field: _("Use at most %(n)d characters.") % {"n": LONGEST_COMMENT}})
    return text
