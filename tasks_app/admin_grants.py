"""The admin page of a project: who has which role there, given and taken through access_app.grants."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_app import people
from access_app.admin_forms import ServiceForm
from access_app.grants import grant_role, grants, revoke_role
from access_app.roles import Role
from tasks_app.errors import InvalidInput
from tasks_app.models import Project


class ProjectRolesForm(ServiceForm):
    """Roles in a project that is there: some taken, one given."""

    take = forms.MultipleChoiceField(
        label=_("take these roles"), required=False, widget=forms.CheckboxSelectMultiple, choices=()
    )
    user = forms.CharField(label=_("give a role to the user"), required=False, max_length=150)
    group = forms.CharField(label=_("or to the group"), required=False, max_length=150)
    role = forms.ChoiceField(label=_("the role"), required=False, choices=[("", "–"), *Role.choices])

    class Meta:
        model = Project
        fields = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._given = {f"{one.is_group}:{one.holder.pk}": one for one in grants([self.instance.pk])}
        take = self.fields["take"]
        assert isinstance(take, forms.MultipleChoiceField)
        take.choices = [
            (key, f"{_('group') if one.is_group else _('user')} {one.name}: {Role(one.role).label}")
            for key, one in self._given.items()
        ]

    def write(self) -> Project:
        given, now, project = self.cleaned_data, timezone.now(), Project.objects.get(pk=self.instance.pk)
        with transaction.atomic():
            for key in given["take"]:
                revoke_role(self.actor, self._given[key].holder, project, now=now)
            if given["user"] or given["group"]:
                if not given["role"]:
                    raise InvalidInput(role=gettext("Choose a role."))
                holder: Any = (
                    people.find_named_user(given["user"]) if given["user"] else people.find_named_group(given["group"])
                )
                grant_role(self.actor, holder, given["role"], project, now=now)
        return project
