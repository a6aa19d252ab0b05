from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MonitoringConfig(AppConfig):
    name = "monitoring_app"
    verbose_name = _("Monitoring")

    def ready(self) -> None:
        # They register themselves.
        from monitoring_app import checks, checks_of_deployment, checks_of_secrets  # noqa: F401
