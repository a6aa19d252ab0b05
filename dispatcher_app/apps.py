from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DispatcherConfig(AppConfig):
    name = "dispatcher_app"
    verbose_name = _("Dispatcher")
