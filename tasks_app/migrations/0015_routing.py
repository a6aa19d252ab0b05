import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks_app', '0014_words'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='target_id',
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name='task',
            name='required_labels',
            field=models.CharField(blank=True, max_length=500, validators=[django.core.validators.RegexValidator('^[^\\x00-\\x1f\\x7f]+$', 'Use one line of printable characters.')], verbose_name='required labels'),
        ),
        migrations.AddField(
            model_name='task',
            name='routing',
            field=models.CharField(choices=[('any', 'any worker that is free'), ('least_loaded', 'the least loaded worker'), ('round_robin', 'workers by turns'), ('random', 'a worker by chance'), ('consistent_hash', 'one worker for each key'), ('specific', 'a named worker'), ('failover', 'the first of a list that is online')], default='any', max_length=20, verbose_name='routing'),
        ),
        migrations.AddField(
            model_name='task',
            name='routing_key',
            field=models.CharField(blank=True, max_length=100, validators=[django.core.validators.RegexValidator('^[^\\x00-\\x1f\\x7f]+$', 'Use one line of printable characters.')], verbose_name='routing key'),
        ),
        migrations.AddField(
            model_name='task',
            name='routing_workers',
            field=models.JSONField(blank=True, default=list, verbose_name='workers'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('state', 'queued'), ('target_id__isnull', False)), fields=['target_id'], name='run_queued_to'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('queued_at__isnull', False), ('target_id__isnull', False)), fields=['task', 'target_id', 'queued_at'], name='run_last_of_target'),
        ),
    ]
