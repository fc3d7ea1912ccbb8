"""The vector store: one protocol, served by Qdrant Edge in the data folder or by a Qdrant server."""

from __future__ import annotations

from typing import TYPE_CHECKING

# Readers take `pipeline.store.bm25` to an environment without kb-ingest's requirements (docs/search.md).
if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.store.base import Role, VectorStore

#: Folder of the embedded store in the data folder.
STORE = "qdrant"


def open_store(settings: Settings, *, role: Role = "reader") -> VectorStore:
    """The store that the settings name: a server if KB_QDRANT_URL is set, else the one in the data folder.

    Nothing is opened or contacted yet. Raises ConfigError for a server on another host without an API key.
    """
    if settings.embedded_store:
        from pipeline.store.edge import EdgeStore

        return EdgeStore(
            settings.data_dir / STORE,
            role=role,
            batch_points=settings.upsert_batch_points,
            batch_bytes=settings.upsert_batch_bytes,
            language=settings.language,
        )
    from pipeline.store.server import ServerStore

    return ServerStore(
        settings.qdrant_url,
        settings.api_key.get_secret_value(),
        allow_insecure=settings.allow_insecure,
        timeout_s=settings.request_timeout_s,
        retry_s=settings.retry_s,
        batch_points=settings.upsert_batch_points,
        batch_bytes=settings.upsert_batch_bytes,
        shards=settings.qdrant_shards,
        replicas=settings.qdrant_replicas,
        write_consistency=settings.qdrant_write_consistency,
        quantization=settings.qdrant_quantization,
        on_disk=settings.qdrant_on_disk,
        language=settings.language,
    )


def tidy(settings: Settings) -> None:
    """Remove what processes that were killed have left in the embedded store."""
    if settings.embedded_store:
        from pipeline.store import doors

        doors.tidy(settings.data_dir / STORE)
