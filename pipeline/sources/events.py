"""Notifications of object stores: which objects they name. What happened to these is asked of the store itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from pipeline.text import well_formed

#: Protocols of URLs of the stores that send these notifications.
S3, GCS = ("s3", "s3a"), ("gs", "gcs")

#: Maximum number of objects in one notification.
MAX_OBJECTS = 1000


@dataclass(frozen=True, slots=True)
class Named:
    """An object in a notification."""

    protocols: tuple[str, ...]  #: of its store
    path: str  #: bucket and key, not percent-encoded


def named(body: Mapping[str, Any]) -> list[Named]:
    """The objects that a notification names; none for a test message. Raises ValueError for something else.

    Known are notifications of S3 and MinIO, S3 events of Amazon EventBridge, and those of Google Cloud Storage as CloudEvents
    and as pushed by Pub/Sub.
    """
    if isinstance(records := body.get("Records"), list):
        found = [_of_s3(_object(record, "s3"), quoted=True) for record in records]
    elif body.get("Event") == "s3:TestEvent":
        found = []
    elif "detail" in body:
        found = [_of_s3(_object(body, "detail"), quoted=False)]
    elif "message" in body:
        about = _object(_object(body, "message"), "attributes")
        found = [_of_gcs(about, "bucketId", "objectId")]
    else:
        found = [_of_gcs(_object(body, "data") if "data" in body else body, "bucket", "name")]
    if len(found) > MAX_OBJECTS:
        raise ValueError(f"it names more than {MAX_OBJECTS} objects")
    return found


def _of_s3(about: Mapping[str, Any], *, quoted: bool) -> Named:
    key = _text(_object(about, "object"), "key")
    return Named(S3, f"{_text(_object(about, 'bucket'), 'name')}/{unquote_plus(key) if quoted else key}")


def _of_gcs(about: Mapping[str, Any], bucket: str, key: str) -> Named:
    return Named(GCS, f"{_text(about, bucket)}/{_text(about, key)}")


def _object(around: Any, name: str) -> Mapping[str, Any]:
    found = around.get(name) if isinstance(around, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"it has no object {name!r}")
    return found


def _text(around: Mapping[str, Any], name: str) -> str:
    found = around.get(name)
    if not isinstance(found, str) or not found:
        raise ValueError(f"it has no text {name!r}")
    return well_formed(found)
