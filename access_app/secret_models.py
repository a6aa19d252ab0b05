"""Secrets: values that runs get and nobody can read back."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

NAME_PATTERN = r"^[A-Z][A-Z0-9_]{0,63}\Z"


class Secret(models.Model):
    """A value of a project under a name. What the row holds of it is encrypted, with the id of its key.

    Granted to the whole project, or to the tasks that are named.
    """

    id = models.BigAutoField(primary_key=True)
    # By name, as below: projects and tasks live in an app above this one.
    project = models.ForeignKey(
        "tasks_app.Project", on_delete=models.PROTECT, related_name="secrets", verbose_name=_("project")
    )
    name = models.CharField(
        _("name"),
        max_length=64,
        validators=[RegexValidator(NAME_PATTERN, _("Use capital letters, digits and underscores, a letter first."))],
    )
    description = models.CharField(_("description"), max_length=1000, blank=True)
    sealed = models.TextField(editable=False)
    key_id = models.CharField(_("key"), max_length=16, editable=False)
    # How many values it has had.
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    whole_project = models.BooleanField(_("for the whole project"), default=True)
    tasks = models.ManyToManyField(
        "tasks_app.Task", related_name="granted_secrets", blank=True, verbose_name=_("tasks")
    )
    created_at = models.DateTimeField(_("created at"), editable=False)
    updated_at = models.DateTimeField(_("updated at"), editable=False)

    class Meta:
        verbose_name = _("secret")
        verbose_name_plural = _("secrets")
        ordering = ("name", "id")
        constraints = (models.UniqueConstraint(fields=("project", "name"), name="secret_name_once_per_project"),)
        indexes = (
            # Reader: rotation, what is not under the newest key yet.
            models.Index(fields=("key_id", "id"), name="secret_of_key"),
        )

    def __str__(self) -> str:
        return self.name
