"""Which resources the runs of a task take, and how much of each."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext as _

from tasks_app.errors import InvalidInput
from tasks_app.models import Resource, Task, TaskResource

MOST_RESOURCES = 20
MOST_AMOUNT = 2**15 - 1


def amounts_of(task: Task) -> dict[str, int]:
    """{name of a resource: amount}, by name; no query where `task_resources__resource` was prefetched."""
    return dict(sorted((use.resource.name, use.amount) for use in task.task_resources.all()))


def set_amounts(task: Task, amounts: Mapping[str, int]) -> None:
    """Make these the resources of the task, which has been saved. Call it inside the transaction that changes the task.

    Raises InvalidInput at `resources` for a name that is unknown and for more than the resource has.
    """
    if len(amounts) > MOST_RESOURCES:
        raise InvalidInput(resources=_("A task takes at most %(n)d resources.") % {"n": MOST_RESOURCES})
    # Held still, so that nobody lowers a capacity below what is taken here. In key order, as everywhere.
    rows = Resource.objects.filter(name__in=list(amounts)).order_by("pk").select_for_update(no_key=True)
    found = {resource.name: resource for resource in rows}
    for name, amount in amounts.items():
        _check(name, amount, found.get(name))
    wanted = {found[name].pk: amount for name, amount in amounts.items()}
    current = dict(TaskResource.objects.filter(task=task).values_list("resource_id", "amount"))
    if wanted == current:
        return
    TaskResource.objects.filter(task=task).exclude(resource_id__in=list(wanted)).delete()
    TaskResource.objects.bulk_create(
        [TaskResource(task=task, resource_id=pk, amount=amount) for pk, amount in wanted.items()],
        update_conflicts=True,
        unique_fields=["task", "resource"],
        update_fields=["amount"],
    )


def _check(name: str, amount: int, resource: Resource | None) -> None:
    if resource is None:
        raise InvalidInput(resources=_("There is no resource %(name)s.") % {"name": name})
    if not 1 <= amount <= MOST_AMOUNT:
        raise InvalidInput(resources=_("The amount of %(name)s must be 1 or more.") % {"name": name})
    if resource.capacity is not None and amount > resource.capacity:
        text = _("%(name)s has only %(n)d; a run that takes %(amount)d of it could never start.")
        raise InvalidInput(resources=text % {"name": name, "n": resource.capacity, "amount": amount})
