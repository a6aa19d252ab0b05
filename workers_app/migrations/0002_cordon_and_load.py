from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks_app', '0001_initial'),
        ('workers_app', '0001_initial'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='worker',
            name='worker_lease',
        ),
        migrations.AddField(
            model_name='worker',
            name='cpu_percent',
            field=models.FloatField(null=True, verbose_name='processors in use, %'),
        ),
        migrations.AddField(
            model_name='worker',
            name='memory_bytes',
            field=models.BigIntegerField(null=True, verbose_name='memory of the worker itself, bytes'),
        ),
        migrations.AddField(
            model_name='worker',
            name='memory_percent',
            field=models.FloatField(null=True, verbose_name='memory in use, %'),
        ),
        migrations.AddField(
            model_name='worker',
            name='slots_used',
            field=models.PositiveIntegerField(default=0, verbose_name='slots in use'),
        ),
        migrations.AlterField(
            model_name='worker',
            name='state',
            field=models.CharField(choices=[('online', 'online'), ('cordoned', 'cordoned'), ('draining', 'draining'), ('offline', 'offline'), ('lost', 'lost')], default='online', max_length=10, verbose_name='state'),
        ),
        migrations.AddIndex(
            model_name='worker',
            index=models.Index(condition=models.Q(('state__in', ('online', 'cordoned', 'draining'))), fields=['lease_until'], name='worker_lease'),
        ),
    ]
