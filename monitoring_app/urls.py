from django.urls import path

from access_app.api.routing import routes
from monitoring_app.health import ReadyView, live
from monitoring_app.metrics import MetricsView

urlpatterns = [
    path("health", live),
    path("health/", live),
    path("health/live", live),
    path("health/live/", live),
    *routes(("health/ready", ReadyView), ("metrics", MetricsView)),
]
