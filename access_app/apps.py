from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccessConfig(AppConfig):
    name = "access_app"
    verbose_name = _("Access")

    def ready(self) -> None:
        from access_app import runtime_settings  # noqa: F401  (declares them)
        from access_app.masking import known
        from scheduler_site.logging import add_filter

        add_filter(known.text)
