from access_app.api.audit import AuditView
from access_app.api.keys import KeysView, KeyView
from access_app.api.routing import routes
from access_app.api.settings import SettingsView

urlpatterns = routes(
    ("auth/keys", KeysView),
    ("auth/keys/<int:key_id>", KeyView),
    ("audit", AuditView),
    ("settings", SettingsView),
)
