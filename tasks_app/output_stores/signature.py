"""AWS Signature Version 4 for requests with a known body. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks; the secret is in no text that this class makes of itself."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str
    service: str = "s3"


def signed_headers(
    method: str, host: str, path: str, body: bytes, credentials: Credentials, *, now: datetime, more: Mapping[str, str]
) -> dict[str, str]:
    """The headers of the request with its signature: `path` as it is before quoting, without a query."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp, **more}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    canonical = f"{method}\n{quoted(path)}\n\n{lines}\n{names}\n{digest}"
    scope = f"{stamp[:8]}/{credentials.region}/{credentials.service}/aws4_request"
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (stamp[:8], credentials.region, credentials.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    given = f"Credential={credentials.access_key}/{scope},SignedHeaders={names},Signature={signature}"
    return headers | {"authorization": f"{ALGORITHM} {given}"}


def quoted(path: str) -> str:
    """The path as it stands in the request and in what is signed."""
    return quote(path, safe="/-_.~")
