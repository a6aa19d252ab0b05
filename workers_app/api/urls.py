from access_app.api.routing import routes
from workers_app.api.workers import WorkersView, WorkerView

urlpatterns = routes(
    ("workers", WorkersView),
    ("workers/<uuid:worker_id>", WorkerView),
)
