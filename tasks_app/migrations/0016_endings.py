import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks_app', '0015_routing'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='memory_limit_mb',
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='alone',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='taskversion',
            name='poison_limit',
            field=models.PositiveSmallIntegerField(default=3, validators=[django.core.validators.MinValueValidator(1)], verbose_name='quarantine after dead workers'),
        ),
        migrations.AddField(
            model_name='taskversion',
            name='memory_limit_mb',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='memory limit in MB'),
        ),
        migrations.AddField(
            model_name='taskversion',
            name='cpu_limit_seconds',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='processor time limit in seconds'),
        ),
        migrations.AddField(
            model_name='taskversion',
            name='open_files_limit',
            field=models.PositiveIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='open files limit'),
        ),
        migrations.AlterField(
            model_name='run',
            name='reason',
            field=models.CharField(blank=True, choices=[('', ''), ('exit_code', 'exit_code'), ('exception', 'exception'), ('timeout', 'timeout'), ('memory_limit', 'memory_limit'), ('cpu_limit', 'cpu_limit'), ('open_files_limit', 'open_files_limit'), ('script_missing', 'script_missing'), ('command_not_found', 'command_not_found'), ('invalid_parameters', 'invalid_parameters'), ('unexpected_status', 'unexpected_status'), ('address_refused', 'address_refused'), ('connection', 'connection'), ('cancel_requested', 'cancel_requested'), ('worker_lost', 'worker_lost'), ('worker_stopped', 'worker_stopped'), ('worker_left', 'worker_left'), ('poison', 'poison'), ('retry', 'retry'), ('upstream', 'upstream'), ('overlap', 'overlap'), ('start_deadline', 'start_deadline'), ('backfill', 'backfill'), ('invalid_macro', 'invalid_macro'), ('internal', 'internal')], max_length=30),
        ),
        migrations.CreateModel(
            name='EndStep',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attempt', models.PositiveSmallIntegerField()),
                ('step', models.CharField(choices=[('acknowledged', 'its worker has seen it'), ('closed', 'connection closed'), ('interrupted', 'statement interrupted'), ('term', 'TERM sent'), ('kill', 'KILL sent'), ('worker_lost', 'its worker is gone')], max_length=15)),
                ('at', models.DateTimeField()),
                ('run', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='end_steps', to='tasks_app.run')),
            ],
            options={
                'verbose_name': 'step of an ending',
                'verbose_name_plural': 'steps of endings',
                'ordering': ('at', 'id'),
                'constraints': [models.UniqueConstraint(fields=('run', 'attempt', 'step'), name='end_step_once')],
            },
        ),
        migrations.CreateModel(
            name='WorkerDeath',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attempt', models.PositiveSmallIntegerField()),
                ('at', models.DateTimeField()),
                ('worker_id', models.UUIDField()),
                ('worker_name', models.CharField(max_length=200, verbose_name='worker')),
                ('host', models.CharField(blank=True, max_length=200, verbose_name='host')),
                ('signal', models.PositiveSmallIntegerField(null=True, verbose_name='signal')),
                ('out_of_memory', models.BooleanField(null=True, verbose_name='out of memory')),
                ('worker_peak_mb', models.PositiveIntegerField(null=True, verbose_name='most memory of the worker in MB')),
                ('run_peak_mb', models.PositiveIntegerField(null=True, verbose_name='most memory of the run in MB')),
                ('last_words', models.TextField(blank=True, verbose_name='last words')),
                ('run', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='deaths', to='tasks_app.run')),
            ],
            options={
                'verbose_name': 'death of a worker',
                'verbose_name_plural': 'deaths of workers',
                'ordering': ('attempt', 'id'),
                'indexes': [models.Index(fields=['worker_id'], name='worker_death_of_worker')],
                'constraints': [models.UniqueConstraint(fields=('run', 'attempt'), name='worker_death_once')],
            },
        ),
        migrations.CreateModel(
            name='StoredOutput',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attempt', models.PositiveSmallIntegerField()),
                ('store', models.CharField(max_length=500, verbose_name='store')),
                ('key', models.CharField(max_length=200, verbose_name='name in the store')),
                ('line_count', models.PositiveIntegerField(verbose_name='lines')),
                ('size', models.PositiveIntegerField(verbose_name='bytes')),
                ('truncated', models.BooleanField(default=False)),
                ('run', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='stored_outputs', to='tasks_app.run')),
            ],
            options={
                'verbose_name': 'stored output',
                'verbose_name_plural': 'stored outputs',
                'ordering': ('-id',),
                'constraints': [models.UniqueConstraint(fields=('run', 'attempt'), name='stored_output_once')],
            },
        ),
    ]
