from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tasks_app', '0011_run_again_for'),
    ]

    operations = [
        migrations.AlterField(
            model_name='ledgerentry',
            name='answer',
            field=models.CharField(choices=[('skipped', 'skipped'), ('coalesced', 'coalesced'), ('missed', 'missed'), ('run', 'ran'), ('expired', 'expired')], max_length=10, verbose_name='answer'),
        ),
    ]
