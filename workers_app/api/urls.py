from access_app.api.routing import routes
from workers_app.api.workers import CordonView, DrainView, UncordonView, WorkersView, WorkerView

urlpatterns = routes(
    ("workers", WorkersView),
    ("workers/<uuid:worker_id>", WorkerView),
    ("workers/<uuid:worker_id>/cordon", CordonView),
    ("workers/<uuid:worker_id>/uncordon", UncordonView),
    ("workers/<uuid:worker_id>/drain", DrainView),
)
