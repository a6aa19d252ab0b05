"""The project and the pool that a task belongs to when nothing else is said."""

from django.db import migrations


def create_defaults(apps, schema_editor):
    apps.get_model("tasks_app", "Project").objects.get_or_create(name="default")
    apps.get_model("tasks_app", "Pool").objects.get_or_create(name="default")


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0001_initial")]
    operations = [migrations.RunPython(create_defaults, migrations.RunPython.noop)]
