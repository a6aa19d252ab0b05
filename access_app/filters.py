"""One filter object for each list: it serves the page and the API alike."""

from __future__ import annotations

import django_filters
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _

from access_app.models import AuditEntry


class AuditFilter(django_filters.FilterSet):
    object_type = django_filters.CharFilter(label=_("object type"))
    object_id = django_filters.CharFilter(label=_("object id"))
    object_name = django_filters.CharFilter(lookup_expr="icontains", label=_("object name"))
    verb = django_filters.CharFilter(label=_("verb"))
    actor = django_filters.CharFilter(lookup_expr="icontains", label=_("actor"))
    request_id = django_filters.CharFilter(label=_("request id"))
    at_after = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte", label=_("from"))
    at_before = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt", label=_("until"))

    class Meta:
        model = AuditEntry
        fields: tuple[str, ...] = ()


class UserFilter(django_filters.FilterSet):
    username = django_filters.CharFilter(lookup_expr="icontains", label=_("user name"))
    active = django_filters.BooleanFilter(field_name="is_active", label=_("active"))
    administrator = django_filters.BooleanFilter(field_name="is_superuser", label=_("administrator"))

    class Meta:
        model = User
        fields: tuple[str, ...] = ()
