import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks_app', '0011_routing'),
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
            model_name='task',
            name='shards',
            field=models.PositiveSmallIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000)], verbose_name='shards'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('shard_of__isnull', False)), fields=['shard_of'], name='run_part_of'),
        ),
    ]
