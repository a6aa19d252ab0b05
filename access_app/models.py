"""API keys and the audit trail."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from knox.models import AbstractAuthToken, AuthTokenManager

from access_app.approval_models import ApprovalPolicy, ApprovalRequest
from access_app.roles import Role
from access_app.secret_models import Secret

__all__ = [
    "ApiKey",
    "ApprovalPolicy",
    "ApprovalRequest",
    "AuditAnchor",
    "AuditEntry",
    "AuditHead",
    "AuditLink",
    "AuditPending",
    "RateCount",
    "RuntimeSetting",
    "Secret",
    "TokenFamily",
    "WorkerKey",
]


class ApiKey(AbstractAuthToken):
    """A key for programs: `dts_...`, stored as prefix and digest, shown once. Its role caps that of its user."""

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=128, unique=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="auth_token_set")
    name = models.CharField(_("name"), max_length=100)
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.VIEWER)
    # Verbs, beside `view`; empty: all that the role may.
    scopes = models.JSONField(_("scopes"), default=list, blank=True)
    # Address ranges from which alone it is taken; empty: from everywhere.
    addresses = models.JSONField(_("addresses"), default=list, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)

    objects: ClassVar[AuthTokenManager] = AuthTokenManager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.name} ({self.token_key}…)"


class TokenFamily(models.Model):
    """A sign-in for JWT: all tokens that come from it. `current` is the refresh token that may still be used."""

    class Why(models.TextChoices):
        REVOKED = "revoked", _("revoked")
        REPLAYED = "replayed", _("a refresh token was used twice")

    id = models.UUIDField(primary_key=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="token_families")
    current = models.CharField(max_length=32, editable=False)
    # Of the password at sign-in: with another password the tokens are good for nothing.
    password_mark = models.CharField(max_length=128, editable=False)
    address = models.GenericIPAddressField(_("address"), null=True)
    created_at = models.DateTimeField(_("created at"))
    refreshed_at = models.DateTimeField(_("refreshed at"))
    expires_at = models.DateTimeField(_("expires at"))
    revoked_at = models.DateTimeField(_("revoked at"), null=True)
    revoked_why = models.CharField(_("revoked why"), max_length=10, choices=Why.choices, blank=True)

    class Meta:
        verbose_name = _("token sign-in")
        verbose_name_plural = _("token sign-ins")
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"tokens {self.pk.hex[:8]}"


class WorkerKey(models.Model):
    """A key for agents, the workers that reach only the web port: `dts_worker_...`, stored as prefix and digest, shown
    once. With it a machine can be a worker of these pools, and nothing else. A revoked key stays, to be named."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(_("name"), max_length=100)
    prefix = models.CharField(max_length=25, editable=False)
    digest = models.CharField(max_length=128, unique=True, editable=False)
    # By name: pools live in an app above this one.
    pools = models.ManyToManyField("tasks_app.Pool", related_name="worker_keys", verbose_name=_("pools"))
    created_at = models.DateTimeField(_("created at"))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("worker key")
        verbose_name_plural = _("worker keys")
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def pool_names(self) -> list[str]:
        return sorted(str(pool) for pool in self.pools.all())


class AuditEntry(models.Model):
    """Who did what to which object, with the values before and after. Rows are only ever added."""

    at = models.DateTimeField(_("at"))
    actor = models.CharField(_("actor"), max_length=200)
    # The entry is never changed again, also when the account is deleted.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    verb = models.CharField(_("verb"), max_length=60)
    object_type = models.CharField(_("object type"), max_length=60)
    object_id = models.CharField(_("object id"), max_length=60)
    object_name = models.CharField(_("object name"), max_length=200)
    before = models.JSONField(_("before"), null=True)
    after = models.JSONField(_("after"), null=True)
    address = models.GenericIPAddressField(_("address"), null=True)
    request_id = models.CharField(_("request id"), max_length=64, blank=True)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        ordering = ("-id",)
        indexes = (
            # Reader: /api/audit of one object.
            models.Index(fields=("object_type", "object_id", "-id"), name="audit_of_object"),
        )

    def __str__(self) -> str:
        return f"{self.actor} {self.verb} {self.object_type} {self.object_name}"


class RuntimeSetting(models.Model):
    """A runtime setting that has another value than its default. `value` is encrypted where the setting is secret."""

    name = models.CharField(_("name"), max_length=60, primary_key=True)
    value = models.JSONField(_("value"))
    updated_at = models.DateTimeField(_("updated at"))
    updated_by = models.CharField(_("updated by"), max_length=200)

    class Meta:
        verbose_name = _("runtime setting")
        verbose_name_plural = _("runtime settings")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class RateCount(models.Model):
    """How much of a minute all processes have taken together, for one who asks. On PostgreSQL without a log of writes:
    after a crash everybody begins anew."""

    key = models.CharField(max_length=32, primary_key=True)
    minute = models.BigIntegerField()
    used = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.key} {self.used}"


class AuditPending(models.Model):
    """An entry that is not in the chain yet: written with it, taken away when it is sealed."""

    entry = models.OneToOneField(AuditEntry, on_delete=models.DO_NOTHING, primary_key=True, db_constraint=False)

    def __str__(self) -> str:
        return f"entry {self.pk}"


class AuditLink(models.Model):
    """A link of the chain: what entry it seals, the digest of that entry, and that of the whole trail up to here."""

    sequence = models.BigIntegerField(primary_key=True)
    # No foreign key: that an entry is gone must be seen, not prevented or followed.
    entry_id = models.BigIntegerField(unique=True)
    digest = models.CharField(max_length=64)
    chain = models.CharField(max_length=64)
    sealed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"link {self.sequence}"


class AuditAnchor(models.Model):
    """The end of the chain at some time, signed with the secret key and written to the log as well."""

    sequence = models.BigIntegerField(primary_key=True)
    chain = models.CharField(max_length=64)
    at = models.DateTimeField()
    signature = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.sequence}:{self.chain}"


class AuditHead(models.Model):
    """The end of the chain now, signed. One row; whoever seals holds its lock."""

    sequence = models.BigIntegerField(default=0)
    chain = models.CharField(max_length=64, default="")
    signature = models.CharField(max_length=64, default="")
    anchored_sequence = models.BigIntegerField(default=0)
    anchored_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.sequence}:{self.chain}"
