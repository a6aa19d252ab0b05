"""The chain through the audit trail. What was written before it is sealed as it is found."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def leave_to_be_sealed(apps, schema_editor):
    names = {"entry": "access_app_auditentry", "pending": "access_app_auditpending"}
    schema_editor.execute("INSERT INTO {pending} (entry_id) SELECT id FROM {entry}".format(**names))


class Migration(migrations.Migration):

    dependencies = [
        ('access_app', '0003_worker_keys'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditAnchor',
            fields=[
                ('sequence', models.BigIntegerField(primary_key=True, serialize=False)),
                ('chain', models.CharField(max_length=64)),
                ('at', models.DateTimeField()),
                ('signature', models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name='AuditHead',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sequence', models.BigIntegerField(default=0)),
                ('chain', models.CharField(default='', max_length=64)),
                ('signature', models.CharField(default='', max_length=64)),
                ('anchored_sequence', models.BigIntegerField(default=0)),
                ('anchored_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='AuditLink',
            fields=[
                ('sequence', models.BigIntegerField(primary_key=True, serialize=False)),
                ('entry_id', models.BigIntegerField(unique=True)),
                ('digest', models.CharField(max_length=64)),
                ('chain', models.CharField(max_length=64)),
                ('sealed_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='AuditPending',
            fields=[
                ('entry', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, serialize=False, to='access_app.auditentry')),
            ],
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='user',
            field=models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.RunPython(leave_to_be_sealed, migrations.RunPython.noop),
    ]
