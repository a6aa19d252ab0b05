"""Where the output of an attempt is that is no longer in the database."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from tasks_app.models.run import Run


class StoredOutput(models.Model):
    """All lines of one attempt as an object in `store`, a place that `output_stores.store_at` reads."""

    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="stored_outputs", db_index=False, db_constraint=False
    )
    attempt = models.PositiveSmallIntegerField()
    store = models.CharField(_("store"), max_length=500)
    key = models.CharField(_("name in the store"), max_length=200)
    line_count = models.PositiveIntegerField(_("lines"))
    size = models.PositiveIntegerField(_("bytes"))
    truncated = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("stored output")
        verbose_name_plural = _("stored outputs")
        ordering = ("-id",)
        constraints = (
            # Reader: run_output.of_attempt.
            models.UniqueConstraint(fields=("run", "attempt"), name="stored_output_once"),
        )

    def __str__(self) -> str:
        return f"#{self.run_id}: {self.key}"
