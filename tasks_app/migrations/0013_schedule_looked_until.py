from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks_app', '0012_answers_of_deleted_runs'),
    ]

    operations = [
        migrations.AddField(
            model_name='schedule',
            name='looked_until',
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
