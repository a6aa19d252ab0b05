"""A project: the unit of ownership; roles are granted on it."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from access_app.roles import Role, role_permission

NAME_PATTERN = r"^[^\x00-\x1f\x7f]+$"
one_line = RegexValidator(NAME_PATTERN, _("Use one line of printable characters."))


class Project(models.Model):
    name = models.CharField(_("name"), max_length=100, unique=True, validators=[one_line])
    description = models.TextField(_("description"), blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("project")
        verbose_name_plural = _("projects")
        ordering = ("name",)
        permissions = tuple((role_permission(role), f"Holds the role {role}") for role in Role.values)

    def __str__(self) -> str:
        return self.name
