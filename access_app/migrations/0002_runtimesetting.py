from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("access_app", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="RuntimeSetting",
            fields=[
                ("name", models.CharField(max_length=60, primary_key=True, serialize=False, verbose_name="name")),
                ("value", models.JSONField(verbose_name="value")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
                ("updated_by", models.CharField(max_length=200, verbose_name="updated by")),
            ],
            options={
                "verbose_name": "runtime setting",
                "verbose_name_plural": "runtime settings",
                "ordering": ("name",),
            },
        ),
    ]
