import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks_app', '0013_schedule_looked_until'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='runperiod',
            options={'verbose_name': 'dependency by period', 'verbose_name_plural': 'dependencies by period'},
        ),
        migrations.AlterField(
            model_name='resource',
            name='breaker_failures',
            field=models.PositiveSmallIntegerField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='breaker: trips after failures in a row'),
        ),
        migrations.AlterField(
            model_name='resource',
            name='breaker_minimum',
            field=models.PositiveSmallIntegerField(default=10, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(200)], verbose_name='breaker: attempts needed for the share'),
        ),
        migrations.AlterField(
            model_name='resource',
            name='breaker_open_seconds',
            field=models.PositiveIntegerField(default=30, validators=[django.core.validators.MinValueValidator(1)], verbose_name='breaker: tripped for seconds'),
        ),
        migrations.AlterField(
            model_name='resource',
            name='breaker_open_seconds_at_most',
            field=models.PositiveIntegerField(default=1800, validators=[django.core.validators.MinValueValidator(1)], verbose_name='breaker: tripped for at most seconds'),
        ),
        migrations.AlterField(
            model_name='resource',
            name='breaker_ratio',
            field=models.FloatField(blank=True, null=True, validators=[django.core.validators.MinValueValidator(0.01), django.core.validators.MaxValueValidator(1)], verbose_name='breaker: trips at this share of failures'),
        ),
        migrations.AlterField(
            model_name='resource',
            name='breaker_window',
            field=models.PositiveSmallIntegerField(default=20, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(200)], verbose_name='breaker: last attempts looked at for the share'),
        ),
        migrations.AlterField(
            model_name='resource',
            name='capacity',
            field=models.PositiveIntegerField(blank=True, help_text='How much of it runs may take at once; empty = no limit.', null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='capacity'),
        ),
    ]
