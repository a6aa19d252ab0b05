"""What runs compete for. A slot is never counted aside: it is the count of live runs under the lock of this row."""

from __future__ import annotations

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

pool_name = RegexValidator(r"^[a-z0-9][a-z0-9_-]*$", _("Use lower-case letters, digits, '-' and '_'."))


class Pool(models.Model):
    """A named set of workers with an optional limit on runs that are queued or running at once."""

    name = models.CharField(_("name"), max_length=50, unique=True, validators=[pool_name])
    slots = models.PositiveIntegerField(
        _("slots"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Runs queued or running at once; empty = as many as the workers take."),
    )
    description = models.TextField(_("description"), blank=True)

    class Meta:
        verbose_name = _("pool")
        verbose_name_plural = _("pools")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
