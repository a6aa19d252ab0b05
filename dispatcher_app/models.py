"""A dispatcher process as others see it."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _


class Dispatcher(models.Model):
    """A dispatcher process, for the console and the readiness check; it holds no work."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(_("name"), max_length=200)
    started_at = models.DateTimeField(_("started at"))
    beat_at = models.DateTimeField(_("last beat"))
    tick_ms = models.FloatField(_("last tick in ms"), default=0)

    class Meta:
        verbose_name = _("dispatcher")
        verbose_name_plural = _("dispatchers")
        ordering = ("-started_at",)

    def __str__(self) -> str:
        return self.name
