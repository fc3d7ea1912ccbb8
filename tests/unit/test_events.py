"""Which objects notifications name, in the forms of the stores that send them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.sources.events import GCS, S3, Named, named

S3_RECORD = {"bucket": {"name": "b"}, "object": {"key": "a+b/%C3%A4.md", "size": 5}}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"Records": [{"eventName": "ObjectRemoved:Delete", "s3": S3_RECORD}]}, [Named(S3, "b/a b/ä.md")]),
        ({"EventName": "s3:ObjectCreated:Put", "Key": "b/x", "Records": [{"s3": S3_RECORD}] * 2}, [Named(S3, "b/a b/ä.md")] * 2),
        ({"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": "\ud800"}}}]}, [Named(S3, r"b/\ud800")]),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent"}, []),
        (
            {"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": "a+b.md"}}},
            [Named(S3, "b/a+b.md")],
        ),
        (
            {"message": {"attributes": {"eventType": "OBJECT_DELETE", "bucketId": "b", "objectId": "a b.md"}}},
            [Named(GCS, "b/a b.md")],
        ),
        ({"type": "google.cloud.storage.object.v1.finalized", "data": {"bucket": "b", "name": "a"}}, [Named(GCS, "b/a")]),
        ({"kind": "storage#object", "bucket": "b", "name": "a"}, [Named(GCS, "b/a")]),
    ],
)
def test_notifications(body: dict[str, Any], found: list[Named]) -> None:
    assert named(body) == found


@pytest.mark.parametrize(
    "body",
    [{}, {"Records": ["x"]}, {"Records": [{"s3": {"bucket": "b"}}]}, {"message": {}}, {"bucket": "b"}, {"bucket": 1, "name": 2}],
)
def test_what_is_no_notification(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it has no"):
        named(body)
