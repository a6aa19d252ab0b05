from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ConsoleAppConfig(AppConfig):
    name = "console_app"
    verbose_name = _("Console")
