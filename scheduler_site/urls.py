"""The whole URL map on one screen."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from access_app.api.views import UnknownPath
from console_app.views import signing

urlpatterns = [
    # Passwords are changed where it is audited.
    path("admin/password_change/", RedirectView.as_view(pattern_name="console:own_password")),
    # And there is one way to sign in.
    path("admin/login/", signing.admin_sign_in),
    path("admin/", admin.site.urls),
    path("api/", include("access_app.api.urls")),
    path("api/", include("tasks_app.api.urls")),
    path("api/", include("workers_app.api.urls")),
    path("api/", include("dispatcher_app.api.urls")),
    path("api/", include("monitoring_app.api.urls")),
    re_path(r"^api(/|$)", UnknownPath.as_view()),
    path("", include("monitoring_app.urls")),
    path("", include("console_app.urls")),
]
