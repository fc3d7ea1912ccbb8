"""Collections as they were made before points carried the weights of their words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdrant_client import models
from qdrant_edge import Distance, EdgeConfig, EdgeShard, EdgeVectorParams

from pipeline.store import VectorStore
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
    vectors: Any
    if isinstance(store, ServerStore):
        vectors = store._client.retrieve(name, [point_id], with_vectors=True)[0].vector
    else:
        store.close()
        shard = EdgeShard.load(str(folder / name))
        vectors = shard.retrieve([point_id], False, True)[0].vector
        shard.close()
    found = vectors.get("bm25")
    return dict(zip(found.indices, found.values, strict=True)) if found is not None else {}
