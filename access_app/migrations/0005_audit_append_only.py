"""PostgreSQL itself refuses to change or delete what the audit trail holds, whoever asks."""

from django.db import migrations

TABLES = ("access_app_auditentry", "access_app_auditlink", "access_app_auditanchor")
REFUSE = """
CREATE FUNCTION access_app_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only: % of % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$
"""


def refuse(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute(REFUSE, params=None)
    for table in TABLES:
        schema_editor.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION access_app_audit_is_append_only()"
        )


def allow(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    for table in TABLES:
        schema_editor.execute(f"DROP TRIGGER append_only ON {table}")
    schema_editor.execute("DROP FUNCTION access_app_audit_is_append_only()")


class Migration(migrations.Migration):

    dependencies = [
        ('access_app', '0004_audit_chain'),
    ]

    operations = [
        migrations.RunPython(refuse, allow),
    ]
