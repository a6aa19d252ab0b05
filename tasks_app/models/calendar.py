"""A calendar: the times at which schedules may fire, and at which a resource may be used."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from tasks_app.models.project import Project, one_line


class Calendar(models.Model):
    """Rules as a JSON document (see tasks_app.calendar_documents), public holidays and other calendars together.

    One without a project is shared by all. `holidays` is a list of {"country", "subdivision", "name"}; their dates are
    worked out when the calendar is saved and stand in `holiday_rules`, so that firing never waits for a library.
    """

    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.CASCADE, related_name="calendars", verbose_name=_("project")
    )
    name = models.CharField(_("name"), max_length=100, validators=[one_line])
    description = models.TextField(_("description"), blank=True)
    document = models.JSONField(_("rules"), default=dict)
    holidays = models.JSONField(_("public holidays"), default=list, blank=True)
    holiday_rules = models.JSONField(default=dict, editable=False)
    includes = models.ManyToManyField("self", symmetrical=False, blank=True, verbose_name=_("includes"))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("calendar")
        verbose_name_plural = _("calendars")
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(fields=("project", "name"), name="calendar_name_once_per_project"),
            models.UniqueConstraint(
                fields=("name",), name="calendar_shared_name_once", condition=models.Q(project__isnull=True)
            ),
        )

    def __str__(self) -> str:
        return self.name
