"""Collections as they were made before points carried the weights of their words, and points as the engine holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdrant_client import models
from qdrant_edge import Distance, EdgeConfig, EdgeShard, EdgeVectorParams

from pipeline.store.base import VectorStore
from pipeline.store.points import SPARSE
from pipeline.store.server import ServerStore


def make_old(store: VectorStore, folder: Path, name: str, dimension: int) -> None:
    """Make the collection in the store; `folder` is that of the embedded one."""
    if isinstance(store, ServerStore):
        vectors = {"dense": models.VectorParams(size=dimension, distance=models.Distance.COSINE)}
        store._client.create_collection(name, vectors_config=vectors)
    else:
        place = folder / name
        place.mkdir(parents=True)
        shard = EdgeShard.create(
            str(place), EdgeConfig(vectors={"dense": EdgeVectorParams(size=dimension, distance=Distance.Cosine)})
        )
        shard.flush()
        shard.close()
        (place / "collection.json").write_text(json.dumps({"format": 1, "dimension": dimension, "distance": "cosine"}))
    store.create(name, dimension)


def stored_weights(store: VectorStore, folder: Path, name: str, point_id: str) -> dict[int, float]:
    """Term -> weight of a point, as the engine holds them; empty where it holds none."""
    found = _stored(store, folder, name, point_id).vector.get(SPARSE)
    return dict(zip(found.indices, found.values, strict=True)) if found is not None else {}


def stored_payload(store: VectorStore, folder: Path, name: str, point_id: str) -> dict[str, Any]:
    """The payload of a point, as any program reads it."""
    payload: dict[str, Any] = _stored(store, folder, name, point_id).payload
    return payload


def _stored(store: VectorStore, folder: Path, name: str, point_id: str) -> Any:
    if isinstance(store, ServerStore):
        return store._client.retrieve(name, [point_id], with_vectors=True)[0]
    store.close()
    shard = EdgeShard.load(str(folder / name))
    record = shard.retrieve([point_id], True, True)[0]
    shard.close()
    return record
