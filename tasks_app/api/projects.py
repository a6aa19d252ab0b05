"""Projects: list, create, read."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.views import ApiView, ListView, rendered_by
from tasks_app.api.bodies import ProjectBody
from tasks_app.api.shapes import ProjectSerializer
from tasks_app.queries import get_visible, projects_visible_to
from tasks_app.services import projects


class ProjectsView(ListView):
    orderings = ("id", "name")
    default_ordering = "id"

    @extend_schema(operation_id="projects_list", responses=ProjectSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The projects in which you have a role."""
        rows = projects_visible_to(self.actor)
        return self.page(rows, rendered_by(ProjectSerializer))

    @extend_schema(operation_id="projects_create", request=ProjectBody, responses={201: ProjectSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a project. Administrators of the installation only."""
        project = projects.create(self.actor, **self.read(ProjectBody), now=self.now)
        return Response(ProjectSerializer(project).data, status=201)


class ProjectView(ApiView):
    @extend_schema(operation_id="projects_read", responses=ProjectSerializer)
    def get(self, request: Request, project_id: int) -> Response:  # noqa: ARG002
        """One project."""
        return Response(ProjectSerializer(get_visible(projects_visible_to(self.actor), project_id)).data)
