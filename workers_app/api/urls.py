from access_app.api.routing import routes
from workers_app.api.agent_views import (
    AgentFileView,
    ClaimView,
    HeartbeatView,
    LeaveView,
    RunFinishView,
    RunLogView,
)
from workers_app.api.keys import WorkerKeysView, WorkerKeyView
from workers_app.api.workers import CordonView, DrainView, UncordonView, WorkersView, WorkerView

urlpatterns = routes(
    ("auth/worker-keys", WorkerKeysView),
    ("auth/worker-keys/<int:worker_key_id>", WorkerKeyView),
    ("workers", WorkersView),
    ("workers/<uuid:worker_id>", WorkerView),
    ("workers/<uuid:worker_id>/cordon", CordonView),
    ("workers/<uuid:worker_id>/uncordon", UncordonView),
    ("workers/<uuid:worker_id>/drain", DrainView),
    ("workers/<uuid:worker_id>/heartbeat", HeartbeatView),
    ("workers/<uuid:worker_id>/claim", ClaimView),
    ("workers/<uuid:worker_id>/leave", LeaveView),
    ("workers/<uuid:worker_id>/runs/<int:run_id>/log", RunLogView),
    ("workers/<uuid:worker_id>/runs/<int:run_id>/finish", RunFinishView),
    ("agent/agent.py", AgentFileView),
)
