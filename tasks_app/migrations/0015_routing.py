import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks_app', '0014_words'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='shard_index',
            field=models.PositiveSmallIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='shard_of',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='parts', to='tasks_app.run'),
        ),
        migrations.AddField(
            model_name='run',
            name='shard_total',
            field=models.PositiveSmallIntegerField(null=True),
        ),
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
            field=models.CharField(choices=[('any', 'any worker that is free'), ('least_loaded', 'the least loaded worker'), ('round_robin', 'workers by turns'), ('random', 'a worker by chance'), ('consistent_hash', 'one worker for each key'), ('specific', 'a named worker'), ('failover', 'the first of a list that is online'), ('broadcast', 'every worker, a run each'), ('shards', 'several runs, spread over the workers')], default='any', max_length=20, verbose_name='routing'),
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
        migrations.AddField(
            model_name='task',
            name='shards',
            field=models.PositiveSmallIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000)], verbose_name='shards'),
        ),
        migrations.AlterField(
            model_name='run',
            name='reason',
            field=models.CharField(blank=True, choices=[('', ''), ('exit_code', 'exit_code'), ('exception', 'exception'), ('timeout', 'timeout'), ('script_missing', 'script_missing'), ('command_not_found', 'command_not_found'), ('invalid_parameters', 'invalid_parameters'), ('unexpected_status', 'unexpected_status'), ('address_refused', 'address_refused'), ('connection', 'connection'), ('cancel_requested', 'cancel_requested'), ('worker_lost', 'worker_lost'), ('worker_stopped', 'worker_stopped'), ('worker_left', 'worker_left'), ('poison', 'poison'), ('retry', 'retry'), ('upstream', 'upstream'), ('overlap', 'overlap'), ('start_deadline', 'start_deadline'), ('backfill', 'backfill'), ('invalid_macro', 'invalid_macro'), ('internal', 'internal')], max_length=30),
        ),
        migrations.AlterField(
            model_name='run',
            name='run_type',
            field=models.CharField(choices=[('scheduled', 'scheduled'), ('manual', 'manual'), ('rerun', 'rerun'), ('upstream', 'upstream'), ('backfill', 'backfill'), ('part', 'part')], max_length=10),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('shard_of__isnull', False)), fields=['shard_of'], name='run_part_of'),
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
