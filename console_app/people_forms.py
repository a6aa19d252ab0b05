"""The forms of users, groups and grants."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import Group, User
from django.utils.translation import gettext_lazy as _

from access_app import people
from access_app.roles import Role

_SECRET = {"autocomplete": "new-password", "spellcheck": "false"}


def _password(label: Any, **options: Any) -> forms.CharField:
    widget = forms.PasswordInput(attrs=_SECRET)
    return forms.CharField(label=label, strip=False, max_length=people.LONGEST_PASSWORD, widget=widget, **options)


class UserForm(forms.Form):
    """A user. The names of the fields are those of the service."""

    username = forms.CharField(label=_("User name"), max_length=150)
    email = forms.EmailField(label=_("E-mail address"), required=False)
    first_name = forms.CharField(label=_("First name"), max_length=150, required=False)
    last_name = forms.CharField(label=_("Last name"), max_length=150, required=False)
    groups = forms.ModelMultipleChoiceField(label=_("Groups"), queryset=Group.objects.none(), required=False)
    password = _password(
        _("New password"),
        required=False,
        help_text=_("Empty: it stays as it is. An invitation lets the person set it."),
    )
    is_active = forms.BooleanField(label=_("May sign in, and use keys"), required=False, initial=True)
    is_superuser = forms.BooleanField(label=_("Administers the whole installation"), required=False)
    is_staff = forms.BooleanField(label=_("May open the administration pages"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        groups = self.fields["groups"]
        assert isinstance(groups, forms.ModelMultipleChoiceField)
        groups.queryset = Group.objects.order_by("name")
        groups.widget.attrs["size"] = min(max(groups.queryset.count(), 2), 6)

    @classmethod
    def values_of(cls, user: User) -> dict[str, Any]:
        """What the form shows of a user."""
        names = [name for name in cls.base_fields if name not in ("password", "groups")]
        return {name: getattr(user, name) for name in names} | {"groups": list(user.groups.all())}


class GroupForm(forms.Form):
    """A group and its members."""

    name = forms.CharField(label=_("Name"), max_length=people.LONGEST_GROUP_NAME)
    members = forms.CharField(
        label=_("Members"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "class": "mono", "spellcheck": "false"}),
        help_text=_("User names, one a line."),
    )

    def values(self) -> dict[str, Any]:
        """The fields for the service. Raises InvalidInput at a name that nobody has."""
        names = dict.fromkeys(self.cleaned_data["members"].split())
        members = [people.find_named_user(name, "members") for name in names]
        return {"name": self.cleaned_data["name"], "members": members}

    @staticmethod
    def values_of(group: Group) -> dict[str, Any]:
        """What the form shows of a group."""
        names = sorted(group.user_set.values_list("username", flat=True))
        return {"name": group.name, "members": "\n".join(names)}


class GrantForm(forms.Form):
    """A role for a user or for a group."""

    KINDS = (("user", _("User")), ("group", _("Group")))

    kind = forms.ChoiceField(label=_("To whom"), choices=KINDS)
    name = forms.CharField(
        label=_("Name"), max_length=150, widget=forms.TextInput(attrs={"list": "names", "autocomplete": "off"})
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices)

    def holder(self) -> Any:
        """The user or group. Raises InvalidInput at `name`."""
        find = people.find_named_group if self.cleaned_data["kind"] == "group" else people.find_named_user
        return find(self.cleaned_data["name"].strip(), "name")


class InvitationForm(forms.Form):
    """The password of somebody who was invited."""

    password = _password(_("Password"), help_text=_("At least ten characters."))


class OwnPasswordForm(forms.Form):
    """Another password for oneself."""

    old = forms.CharField(
        label=_("Your password"),
        strip=False,
        max_length=people.LONGEST_PASSWORD,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    new = _password(_("New password"), help_text=_("At least ten characters."))
