"""The row that a Celery user keeps for each run, to know what became of it."""

from django.db import models


class JobRow(models.Model):
    state = models.CharField(max_length=10, default="pending", db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects: models.Manager["JobRow"] = models.Manager()

    class Meta:
        app_label = "peer"

    def __str__(self) -> str:
        return f"{self.pk} {self.state}"
