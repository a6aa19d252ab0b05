from access_app.api.routing import routes
from monitoring_app.api.system import DocsView, InfoView, SchemaView, StatsView

urlpatterns = routes(
    ("system/stats", StatsView),
    ("system/info", InfoView),
    ("schema", SchemaView),
    ("docs", DocsView),
)
