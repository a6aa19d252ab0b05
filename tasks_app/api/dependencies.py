"""Edges between tasks, and the graph around one task."""

from __future__ import annotations

import django_filters
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.problems import CONTENT_TYPE
from access_app.api.schema import problem_response
from access_app.api.views import ApiView, ListView, rendered_by
from access_app.roles import require_membership
from tasks_app.api.dependency_bodies import DependencyBody, DependencyEditBody
from tasks_app.api.lookups import find_task, named_task
from tasks_app.api.shapes import DependencySerializer
from tasks_app.graph import around
from tasks_app.models import TaskDependency
from tasks_app.queries import dependencies_visible_to, get_visible
from tasks_app.services import dependencies

MAX_NODES = 2000
CYCLE = {(409, CONTENT_TYPE): problem_response("`dependency_cycle`: the tasks of `path` would wait for each other.")}


class DependencyFilter(django_filters.FilterSet):
    upstream = django_filters.NumberFilter(field_name="upstream_id", min_value=1, max_value=2**63 - 1)
    downstream = django_filters.NumberFilter(field_name="downstream_id", min_value=1, max_value=2**63 - 1)
    project = django_filters.CharFilter(field_name="downstream__project__name", label=_("project"))

    class Meta:
        model = TaskDependency
        fields: tuple[str, ...] = ()


class DependenciesView(ListView):
    filterset = DependencyFilter
    default_ordering = "id"

    @extend_schema(operation_id="dependencies_list", responses=DependencySerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The edges between tasks that you may see."""
        rows = dependencies_visible_to(self.actor)
        return self.page(rows, rendered_by(DependencySerializer))

    @extend_schema(
        operation_id="dependencies_create", request=DependencyBody, responses={201: DependencySerializer, **CYCLE}
    )
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Let `downstream` run after `upstream`, by the trigger rule of `downstream`."""
        actor = self.actor
        require_membership(actor)
        given = self.read(DependencyBody)
        ends = {name: named_task(actor, name, given[name]) for name in ("upstream", "downstream")}
        fields = {name: given[name] for name in dependencies.EDGE_FIELDS if name in given}
        edge = dependencies.create(actor, ends["upstream"], ends["downstream"], fields, now=self.now)
        return Response(DependencySerializer(edge).data, status=201)


class DependencyView(ApiView):
    @extend_schema(operation_id="dependencies_read", responses=DependencySerializer)
    def get(self, request: Request, dependency_id: int) -> Response:  # noqa: ARG002
        """One edge."""
        edge = get_visible(dependencies_visible_to(self.actor), dependency_id)
        return Response(DependencySerializer(edge).data)

    @extend_schema(
        operation_id="dependencies_change", request=DependencyEditBody, responses={200: DependencySerializer, **CYCLE}
    )
    def patch(self, request: Request, dependency_id: int) -> Response:  # noqa: ARG002
        """Change the condition or the period; runs that are planned already keep theirs."""
        actor = self.actor
        edge = get_visible(dependencies_visible_to(actor), dependency_id)
        edge = dependencies.update(actor, edge, self.read(DependencyEditBody), now=self.now)
        return Response(DependencySerializer(edge).data)

    @extend_schema(operation_id="dependencies_delete", responses={204: None})
    def delete(self, request: Request, dependency_id: int) -> Response:  # noqa: ARG002
        """Remove the edge; runs that are planned already keep theirs."""
        actor = self.actor
        dependencies.delete(actor, get_visible(dependencies_visible_to(actor), dependency_id), now=self.now)
        return Response(status=204)


class GraphView(ApiView):
    @extend_schema(
        operation_id="tasks_graph",
        responses=inline_serializer(
            "Graph",
            {
                "nodes": inline_serializer(
                    "GraphNode",
                    {
                        "id": serializers.IntegerField(),
                        "name": serializers.CharField(),
                        "project": serializers.CharField(),
                        "paused": serializers.BooleanField(),
                        "trigger_rule": serializers.CharField(),
                    },
                    many=True,
                ),
                "edges": inline_serializer(
                    "GraphEdge",
                    {
                        "id": serializers.IntegerField(),
                        "upstream": serializers.IntegerField(),
                        "downstream": serializers.IntegerField(),
                        "condition": serializers.CharField(),
                        "period": serializers.CharField(allow_null=True),
                        "period_back": serializers.IntegerField(),
                        "period_policy": serializers.CharField(),
                    },
                    many=True,
                ),
                "complete": serializers.BooleanField(help_text="false: there are more than 2,000 tasks."),
            },
        ),
    )
    def get(self, request: Request, task_id: int) -> Response:  # noqa: ARG002
        """All tasks that are connected with this one, and the edges between them, as far as you may see them."""
        actor = self.actor
        graph = around(actor, find_task(actor, task_id).pk, most=MAX_NODES)
        nodes = [
            {
                "id": task.pk,
                "name": task.name,
                "project": task.project.name,
                "paused": task.paused,
                "trigger_rule": task.trigger_rule,
            }
            for task in graph.tasks
        ]
        edges = [
            {
                "id": edge.pk,
                "upstream": edge.upstream_id,
                "downstream": edge.downstream_id,
                **{name: getattr(edge, name) for name in dependencies.EDGE_FIELDS},
                "period": edge.period or None,
            }
            for edge in graph.edges
        ]
        return Response({"nodes": nodes, "edges": edges, "complete": graph.complete})
