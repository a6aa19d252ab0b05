"""Pools: list, create, read, change."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.views import ApiView, ListView
from tasks_app.api.bodies import PoolBody, PoolEditBody
from tasks_app.api.shapes import PoolSerializer
from tasks_app.models import Pool
from tasks_app.queries import get_visible
from tasks_app.services import resources


def _rendered(pools: list[Pool]) -> list[Any]:
    return list(PoolSerializer(pools, many=True, context={"live": resources.live_runs_of_pools()}).data)


class PoolsView(ListView):
    orderings = ("id", "name")
    default_ordering = "id"

    @extend_schema(operation_id="pools_list", responses=PoolSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """All pools, with the runs that are queued and running in each."""
        return self.page(resources.pools_visible_to(self.actor), _rendered)

    @extend_schema(operation_id="pools_create", request=PoolBody, responses={201: PoolSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a pool. Administrators of the installation only."""
        pool = resources.create_pool(self.actor, self.read(PoolBody), now=self.now)
        return Response(_rendered([pool])[0], status=201)


class PoolView(ApiView):
    def _find(self, pool_id: int) -> Pool:
        return get_visible(resources.pools_visible_to(self.actor), pool_id)

    @extend_schema(operation_id="pools_read", responses=PoolSerializer)
    def get(self, request: Request, pool_id: int) -> Response:  # noqa: ARG002
        """One pool."""
        return Response(_rendered([self._find(pool_id)])[0])

    @extend_schema(operation_id="pools_change", request=PoolEditBody, responses=PoolSerializer)
    def patch(self, request: Request, pool_id: int) -> Response:  # noqa: ARG002
        """Change slots or description. Administrators of the installation only."""
        pool = resources.update_pool(self.actor, self._find(pool_id), self.read(PoolEditBody), now=self.now)
        return Response(_rendered([pool])[0])
