"""The chain through the audit trail: entries are sealed in the order they are found in, each link over all before.

Sealing follows the commit within a second or so, done by whichever dispatcher comes first: a chain that each change had
to lock would make all changes of the installation wait for one another. Every link holds the digest of its entry and
that of the link before it, so that no entry can be changed, taken out or put in without a break. The end of the chain
is signed with the secret key, which is not in the database, and from time to time an anchor is kept and logged.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Max, OuterRef
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from access_app.models import AuditAnchor, AuditEntry, AuditHead, AuditLink, AuditPending

log = structlog.get_logger("audit")
BATCH = 1000
ANCHOR_LINKS = 1000
ANCHOR_EVERY = timedelta(hours=1)
_SALT = "scheduler.audit"
_FIELDS = (
    "id", "at", "actor", "user_id", "verb", "object_type", "object_id", "object_name", "before", "after", "address",
    "request_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold: the number of the link, the id of the entry where one is concerned, and why."""

    sequence: int
    entry: int | None
    why: str


# Sealing


def seal(now: datetime, *, most: int = BATCH) -> int:
    """Put up to `most` entries that are not in the chain yet at its end. Returns how many; 0 also where another process
    is sealing."""
    if not AuditPending.objects.exists():
        return 0
    AuditHead.objects.get_or_create(pk=1)
    with transaction.atomic():
        head = AuditHead.objects.select_for_update(skip_locked=True).first()
        if head is None:
            return 0
        # One that is gone before it was sealed is left to `breaks`, and keeps none of those behind it waiting.
        there = AuditPending.objects.filter(Exists(AuditEntry.objects.filter(pk=OuterRef("pk"))))
        ids = list(there.order_by("pk").values_list("pk", flat=True)[:most])
        if not ids:
            return 0
        entries = list(AuditEntry.objects.filter(pk__in=ids).order_by("pk").values(*_FIELDS))
        links = []
        for entry in entries:
            digest = digest_of(entry)
            head.sequence += 1
            head.chain = _chained(head.sequence, head.chain, digest)
            links.append(
                AuditLink(sequence=head.sequence, entry_id=entry["id"], digest=digest, chain=head.chain, sealed_at=now)
            )
        AuditLink.objects.bulk_create(links)
        AuditPending.objects.filter(pk__in=[link.entry_id for link in links]).delete()
        head.signature = signature(head.sequence, head.chain)
        _anchor(head, now)
        head.save(update_fields=("sequence", "chain", "signature", "anchored_sequence", "anchored_at"))
    return len(links)


def _anchor(head: AuditHead, now: datetime) -> None:
    new = head.sequence - head.anchored_sequence
    if new <= 0:
        return
    if head.anchored_at is not None and new < ANCHOR_LINKS and now - head.anchored_at < ANCHOR_EVERY:
        return
    AuditAnchor.objects.create(sequence=head.sequence, chain=head.chain, at=now, signature=head.signature)
    head.anchored_sequence, head.anchored_at = head.sequence, now
    log.info("audit anchor", anchor=f"{head.sequence}:{head.chain}", signature=head.signature)


def digest_of(entry: dict[str, Any]) -> str:
    """The digest of an entry by its values, as hexadecimal SHA-256 of its JSON with sorted names."""
    plain = {name: _plain(entry[name]) for name in _FIELDS}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def signature(sequence: int, chain: str, *, secret: str | None = None) -> str:
    """The end of a chain signed with the secret key of the installation, or with `secret`."""
    return salted_hmac(_SALT, f"{sequence}:{chain}", secret=secret, algorithm="sha256").hexdigest()


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def _chained(sequence: int, before: str, digest: str) -> str:
    return hashlib.sha256(f"{sequence}:{before}:{digest}".encode()).hexdigest()


# Verifying


def breaks(anchors: dict[int, str] | None = None) -> Iterator[int | Break]:
    """Follow the chain: yields the number of links followed so far from time to time, and a Break, the first one, as
    the last thing where it does not hold. `anchors` are ends from elsewhere, such as the log: {number: chain}.
    """
    # In this order: links that are sealed in between lie beyond neither.
    last = AuditLink.objects.aggregate(last=Max("sequence"))["last"] or 0
    head = AuditHead.objects.first() or AuditHead()
    if last > head.sequence:
        yield Break(head.sequence + 1, None, _("The signed end of the chain lies before this link."))
        return
    wanted = dict(anchors or {})
    signed = {anchor.sequence: anchor for anchor in AuditAnchor.objects.filter(sequence__lte=head.sequence)}
    chain, sequence = "", 0
    links = AuditLink.objects.filter(sequence__lte=head.sequence).order_by("sequence")
    for part in _parts(links.iterator(BATCH)):
        entries = {row["id"]: row for row in _entries([link.entry_id for link in part])}
        for link in part:
            sequence += 1
            broken = _look_at(link, sequence, chain, entries.get(link.entry_id))
            broken = broken or _look_at_anchors(link, signed.get(sequence), wanted.pop(sequence, None))
            if broken is not None:
                yield broken
                return
            chain = link.chain
        yield sequence
    if (broken := _look_at_end(head, sequence, chain, wanted)) is not None:
        yield broken


def _parts(links: Iterable[AuditLink]) -> Iterator[list[AuditLink]]:
    rest = iter(links)
    while part := list(islice(rest, BATCH)):
        yield part


def _entries(ids: list[int]) -> list[dict[str, Any]]:
    return list(AuditEntry.objects.filter(pk__in=ids).values(*_FIELDS))


def _look_at(link: AuditLink, sequence: int, chain: str, entry: dict[str, Any] | None) -> Break | None:
    if link.sequence != sequence:
        return Break(sequence, None, _("This link is missing."))
    if link.chain != _chained(sequence, chain, link.digest):
        return Break(sequence, link.entry_id, _("This link was changed."))
    if entry is None:
        return Break(sequence, link.entry_id, _("The entry was deleted."))
    if digest_of(entry) != link.digest:
        return Break(sequence, link.entry_id, _("The entry was changed."))
    return None


def _look_at_anchors(link: AuditLink, anchor: AuditAnchor | None, wanted: str | None) -> Break | None:
    if wanted is not None and wanted != link.chain:
        return Break(link.sequence, link.entry_id, _("The chain is not that of the anchor given."))
    if anchor is not None and (
        anchor.chain != link.chain or not is_signed(link.sequence, link.chain, anchor.signature)
    ):
        return Break(link.sequence, link.entry_id, _("The chain is not that of its signed anchor."))
    return None


def _look_at_end(head: AuditHead, sequence: int, chain: str, wanted: dict[int, str]) -> Break | None:
    if head.sequence != sequence:
        why = _("The end was cut off: %(n)d links are missing.") % {"n": head.sequence - sequence}
        return Break(sequence + 1, None, why)
    if head.chain != chain or (sequence and not is_signed(sequence, chain, head.signature)):
        return Break(sequence, None, _("The signature of the end does not hold."))
    if wanted:
        return Break(sequence + 1, None, _("The end was cut off: an anchor given lies beyond it."))
    gone = AuditPending.objects.filter(~Exists(AuditEntry.objects.filter(pk=OuterRef("pk")))).order_by("pk").first()
    if gone is not None:
        return Break(sequence + 1, gone.pk, _("The entry was deleted before it was sealed."))
    strange = (
        AuditEntry.objects.filter(
            ~Exists(AuditLink.objects.filter(entry_id=OuterRef("pk"))),
            ~Exists(AuditPending.objects.filter(pk=OuterRef("pk"))),
        )
        .order_by("pk")
        .first()
    )
    return None if strange is None else Break(sequence + 1, strange.pk, _("The entry was put in from outside."))


def is_signed(sequence: int, chain: str, given: str) -> bool:
    """Whether the signature is one of ours: with the secret key, or one that it has taken the place of."""
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return any(hmac.compare_digest(signature(sequence, chain, secret=secret), given) for secret in secrets)
