"""The admin pages of sign-ins: who has tokens and since when, who failed to sign in, and the end of both."""

from __future__ import annotations

from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_app import sign_in, tokens
from access_app.admin import MadeElsewhereAdmin, actor_of
from access_app.models import TokenFamily


@admin.register(TokenFamily)
class TokenFamilyAdmin(MadeElsewhereAdmin):
    list_display = ("user", "address", "created_at", "refreshed_at", "expires_at", "revoked_at", "revoked_why")
    list_select_related = ("user",)
    search_fields = ("user__username", "address__exact")
    fields = readonly_fields = list_display
    actions = ("revoke_tokens",)

    @admin.action(description=_("Revoke the tokens of the selected sign-ins: the next request with one is refused"))
    def revoke_tokens(self, request: HttpRequest, queryset: QuerySet[TokenFamily]) -> None:
        for family in queryset.filter(revoked_at=None).select_related("user"):
            tokens.end(actor_of(request), family, why=TokenFamily.Why.REVOKED, now=timezone.now())
            name = family.user.get_username()
            messages.success(request, gettext("The tokens of %(name)s are revoked.") % {"name": name})


@admin.register(AccessAttempt)
class FailureAdmin(MadeElsewhereAdmin):
    list_display = ("username", "ip_address", "failures_since_start", "attempt_time", "user_agent")
    search_fields = ("username", "ip_address__exact")
    fields = readonly_fields = list_display
    actions = ("let_in_again",)

    @admin.action(description=_("Forget the selected failures: who is locked out may sign in again"))
    def let_in_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for name, address in set(queryset.values_list("username", "ip_address")):
            sign_in.release(actor_of(request), name, address=address, now=timezone.now())
            messages.success(request, gettext("%(name)s may sign in again.") % {"name": name})
