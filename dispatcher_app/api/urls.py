from access_app.api.routing import routes
from dispatcher_app.api.explain import ExplainView

urlpatterns = routes(("runs/<int:run_id>/explain", ExplainView))
