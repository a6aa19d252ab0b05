"""The web entry for gunicorn: `gunicorn scheduler_site.wsgi`."""

import os
import warnings

from django.core.wsgi import get_wsgi_application

from scheduler_site.start import refuse_unsafe_start

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_site.settings")
# Without `collectstatic` the files are served from where they lie, which is what a trial wants.
warnings.filterwarnings("ignore", message="No directory at", module="django.core.handlers.base")
application = get_wsgi_application()
# gunicorn runs no system checks, as every `manage.py` command does.
refuse_unsafe_start()
