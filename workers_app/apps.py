from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WorkersConfig(AppConfig):
    name = "workers_app"
    verbose_name = _("Workers")

    def ready(self) -> None:
        from workers_app import runtime_settings  # noqa: F401  (importing it declares them)
