"""The forms of the admin for what runs take: resources and pools."""

from __future__ import annotations

from django.utils import timezone

from access_app.admin_forms import ServiceForm
from tasks_app.models import Pool, Resource
from tasks_app.services import resources


class ResourceForm(ServiceForm):
    """A resource; its name is chosen once."""

    class Meta:
        model = Resource
        fields = resources.RESOURCE_FIELDS

    def write(self) -> Resource:
        if self.instance.pk is None:
            return resources.create_resource(self.actor, self.changes(), now=timezone.now())
        return resources.update_resource(self.actor, Resource(pk=self.instance.pk), self.changes(), now=timezone.now())


class PoolForm(ServiceForm):
    """A pool; its name is chosen once."""

    class Meta:
        model = Pool
        fields = resources.FIELDS

    def write(self) -> Pool:
        if self.instance.pk is None:
            return resources.create_pool(self.actor, self.changes(), now=timezone.now())
        return resources.update_pool(self.actor, Pool(pk=self.instance.pk), self.changes(), now=timezone.now())
