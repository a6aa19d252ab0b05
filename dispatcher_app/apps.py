from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DispatcherConfig(AppConfig):
    name = "dispatcher_app"
    verbose_name = _("Dispatcher")

    def ready(self) -> None:
        from dispatcher_app import runtime_settings  # noqa: F401  (importing it declares them)
