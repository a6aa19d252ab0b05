from access_app.api.approvals import (
    ApprovalsView,
    ApprovalView,
    ApproveView,
    BreakGlassView,
    CancelView,
    DenyView,
    ReviewView,
    RulesView,
    RuleView,
)
from access_app.api.audit import AuditView
from access_app.api.groups import GroupsView, GroupView
from access_app.api.keys import KeysView, KeyView
from access_app.api.routing import routes
from access_app.api.settings import SettingsView
from access_app.api.tokens import TokenRefreshView, TokenRevokeView, TokenView
from access_app.api.users import InvitationView, UsersView, UserView

urlpatterns = routes(
    ("auth/keys", KeysView),
    ("auth/keys/<int:key_id>", KeyView),
    ("users", UsersView),
    ("users/<int:user_id>", UserView),
    ("users/<int:user_id>/invitation", InvitationView),
    ("groups", GroupsView),
    ("groups/<int:group_id>", GroupView),
    ("auth/token", TokenView),
    ("auth/token/refresh", TokenRefreshView),
    ("auth/token/revoke", TokenRevokeView),
    ("approvals", ApprovalsView),
    ("approvals/<int:approval_id>", ApprovalView),
    ("approvals/<int:approval_id>/approve", ApproveView),
    ("approvals/<int:approval_id>/deny", DenyView),
    ("approvals/<int:approval_id>/cancel", CancelView),
    ("approvals/<int:approval_id>/break-glass", BreakGlassView),
    ("approvals/<int:approval_id>/review", ReviewView),
    ("approval-rules", RulesView),
    ("approval-rules/<int:rule_id>", RuleView),
    ("audit", AuditView),
    ("settings", SettingsView),
)
