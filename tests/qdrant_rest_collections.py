"""What the test-only server of qdrant_rest.py does with a request: collections, aliases and points over Qdrant Edge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

import numpy as np
import qdrant_edge as edge
from pydantic import BaseModel, TypeAdapter
from qdrant_client.http import models

UPDATES: TypeAdapter[models.UpdateOperations] = TypeAdapter(models.UpdateOperations)
CHOSEN: TypeAdapter[models.PointsSelector] = TypeAdapter(models.PointsSelector)


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


class Updated:
    """The result of a write of points; the server says how far it got."""


class Collections:
    """Collections and aliases in a folder; the caller lets one request in at a time."""

    def __init__(self, data: Path) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        self.shards = {unquote(path.name): edge.EdgeShard.load(str(path)) for path in sorted(data.iterdir()) if path.is_dir()}
        aliases = data / "aliases.json"
        self.created: dict[str, models.CreateCollection] = {}  # as asked for since the start
        self.links: dict[str, int] = {}  # links of a graph's nodes, where they were changed; remembered and no more
        self.alias_names: dict[str, str] = json.loads(aliases.read_text()) if aliases.exists() else {}

    def close(self) -> None:
        for shard in self.shards.values():
            shard.close()

    def shard(self, name: str) -> edge.EdgeShard:
        shard = self.shards.get(self.alias_names.get(name, name))
        if shard is None:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return shard

    def create(self, name: str, body: bytes) -> bool:
        request = models.CreateCollection.model_validate_json(body)
        if name in self.shards:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        if name in self.alias_names:
            raise Refused(400, f"Wrong input: Can't create collection with name {name}. Alias with the same name already exists")
        if not isinstance(request.vectors, dict):
            raise Refused(501, "only named vectors")
        sparse = request.sparse_vectors or {}
        if any(v.index is not None or v.modifier is not models.Modifier.IDF for v in sparse.values()):
            raise Refused(501, "only sparse vectors with IDF")
        params = {key: _vector_params(one) for key, one in request.vectors.items()}
        self.created[name] = request
        path = str(self.data / quote(name, safe=""))
        sparse_params = {key: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for key in sparse}
        self.shards[name] = edge.EdgeShard.create(path, edge.EdgeConfig(vectors=params, sparse_vectors=sparse_params))
        return True

    def delete(self, name: str) -> bool:
        shard = self.shards.pop(name, None)
        if shard is None:
            return False
        shard.close()
        shutil.rmtree(self.data / quote(name, safe=""))
        self.save_aliases({a: n for a, n in self.alias_names.items() if n != name})
        return True

    def save_aliases(self, names: dict[str, str]) -> None:
        temporary = self.data / "aliases.new"
        temporary.write_text(json.dumps(names))
        temporary.replace(self.data / "aliases.json")
        self.alias_names = names

    def change_aliases(self, body: bytes) -> bool:
        names = dict(self.alias_names)
        for action in models.ChangeAliasesOperation.model_validate_json(body).actions:
            if isinstance(action, models.CreateAliasOperation):
                new = action.create_alias
                if new.collection_name not in self.shards:
                    raise Refused(404, f"Not found: Collection `{new.collection_name}` doesn't exist!")
                if new.alias_name in self.shards:
                    raise Refused(409, f"Wrong input: Collection `{new.alias_name}` already exists!")
                names[new.alias_name] = new.collection_name
            elif isinstance(action, models.DeleteAliasOperation):
                names.pop(action.delete_alias.alias_name, None)
            else:
                raise Refused(501, "rename_alias")
        self.save_aliases(names)
        return True

    def info(self, name: str) -> dict[str, Any]:
        shard = self.shard(name)
        info = shard.info()
        config = json.loads((self.data / quote(self.alias_names.get(name, name), safe="") / "edge_config.json").read_text())
        return {
            "status": "green", "optimizer_status": "ok", "segments_count": info.segments_count,
            "points_count": info.points_count, "indexed_vectors_count": info.indexed_vectors_count,
            "config": {
                "params": {
                    "vectors": {
                        k: {"size": v["size"], "distance": v["distance"], "multivector_config": v.get("multivector_config")}
                        for k, v in config["vectors"].items()
                    },
                    "sparse_vectors": {k: {"modifier": "idf"} for k in config.get("sparse_vectors") or {}},
                },
                "hnsw_config": {"m": self.links.get(name, 16), "ef_construct": 100, "full_scan_threshold": 10000},
                "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5},
            },
            "payload_schema": {
                key: {"data_type": str(index.data_type).rpartition(".")[2].lower(), "points": info.points_count}
                for key, index in info.payload_schema.items()
            },
        }  # fmt: skip

    def change(self, name: str, body: bytes) -> bool:
        self.shard(name)
        request = models.UpdateCollection.model_validate_json(body)
        if request.hnsw_config is None or request.hnsw_config.m is None or request.model_fields_set != {"hnsw_config"}:
            raise Refused(501, "only hnsw_config.m")
        self.links[name] = request.hnsw_config.m
        return True

    def index(self, name: str, body: bytes) -> Updated:
        request = models.CreateFieldIndex.model_validate_json(body)
        self.shard(name).update(edge.UpdateOperation.create_field_index(request.field_name, _index(request.field_schema)))
        return Updated()

    def upsert(self, name: str, points: list[models.PointStruct]) -> Updated:
        shard, params = self.shard(name), self.info(name)["config"]["params"]
        sizes, new = params["vectors"], []
        for point in points:
            if not isinstance(point.vector, dict):
                raise Refused(400, "Wrong input: Not existing vector name error: ")
            vectors: dict[str, Any] = {}
            for key, vector in point.vector.items():
                vectors[key] = _vector(vector)
                if isinstance(vector, models.SparseVector) and key in params["sparse_vectors"]:
                    if len(vector.indices) != len({*vector.indices}) or len(vector.indices) != len(vector.values):
                        raise Refused(422, "Validation error in JSON body: must be unique, and of the same length as values")
                    continue
                if key not in sizes:
                    raise Refused(400, f"Wrong input: Not existing vector name error: {key}")
                for one in vector if sizes[key]["multivector_config"] else [vector]:
                    if len(one) != sizes[key]["size"]:  # type: ignore[arg-type]
                        text = f"Vector dimension error: expected dim: {sizes[key]['size']}, got {len(one)}"  # type: ignore[arg-type]
                        raise Refused(400, f"Wrong input: {text}")
            new.append(edge.Point(point.id, vectors, point.payload))
        shard.update(edge.UpdateOperation.upsert_points(new))
        return Updated()

    def set_payload(self, name: str, change: models.SetPayload) -> Updated:
        if change.filter is not None:
            operation = edge.UpdateOperation.set_payload_by_filter(_filter(change.filter), change.payload, change.key)
        else:
            self.must_exist(name, change.points or [])
            operation = edge.UpdateOperation.set_payload([*(change.points or [])], change.payload, change.key)
        self.shard(name).update(operation)
        return Updated()

    def must_exist(self, name: str, ids: Iterable[Any]) -> None:
        stored = {str(record.id) for record in self.shard(name).retrieve([*ids], False, False)}
        for point_id in ids:
            if str(point_id) not in stored:
                raise Refused(404, f"Not found: No point with id {point_id} found")

    def remove(self, name: str, chosen: models.PointsSelector) -> Updated:
        if isinstance(chosen, models.PointIdsList):
            operation = edge.UpdateOperation.delete_points([*chosen.points])
        else:
            operation = edge.UpdateOperation.delete_points_by_filter(_filter(chosen.filter))
        self.shard(name).update(operation)
        return Updated()

    def batch(self, name: str, body: bytes) -> list[Updated]:
        operations = UPDATES.validate_json(body).operations
        for operation in operations:
            if not isinstance(operation, models.SetPayloadOperation):
                raise Refused(501, type(operation).__name__)
            self.set_payload(name, operation.set_payload)
        return [Updated() for _ in operations]

    def query_batch(self, name: str, body: bytes) -> list[dict[str, Any]]:
        return [self.query(name, request) for request in models.QueryRequestBatch.model_validate_json(body).searches]

    def query(self, name: str, request: models.QueryRequest) -> dict[str, Any]:
        if request.lookup_from or request.shard_key:
            raise Refused(501, "lookup_from or shard_key")
        if request.prefetch:
            if not isinstance(request.query, models.RrfQuery) or request.query.rrf.weights or request.filter:
                raise Refused(501, "only fusion by RRF, with filters in its branches")
            branches = request.prefetch if isinstance(request.prefetch, list) else [request.prefetch]
            fetched = [
                edge.Prefetch(limit=b.limit or 10, query=self.nearest(name, b), filter=_filter(b.filter) if b.filter else None)
                for b in branches
            ]
            query: Any = edge.Fusion.Rrf(k=request.query.rrf.k or 2)
        else:
            fetched, query = [], self.nearest(name, request)
        wanted = edge.QueryRequest(
            limit=request.limit or 10, prefetches=fetched, query=query, filter=_filter(request.filter) if request.filter else None,
            with_payload=_payload(request.with_payload), with_vector=_named(request.with_vector),
            offset=request.offset, score_threshold=request.score_threshold, params=_params(request.params),
        )  # fmt: skip
        scored = self.shard(name).query(wanted)
        return {"points": [{**_record(point), "score": point.score, "version": point.version} for point in scored]}

    def nearest(self, name: str, branch: models.QueryRequest | models.Prefetch) -> edge.Query:
        vector = branch.query.nearest if isinstance(branch.query, models.NearestQuery) else branch.query
        params = self.info(name)["config"]["params"]
        if isinstance(vector, models.SparseVector):
            if branch.using not in params["sparse_vectors"]:
                raise Refused(400, f"Wrong input: Not existing vector name error: {branch.using}")
        elif not isinstance(vector, list) or (isinstance(branch, models.Prefetch) and branch.prefetch):
            raise Refused(501, "only nearest to a vector")
        elif (size := params["vectors"].get(branch.using, {}).get("size")) != len(vector):
            raise Refused(400, f"Wrong input: Vector dimension error: expected dim: {size}, got {len(vector)}")
        return edge.Query.Nearest(_vector(vector), using=branch.using)

    def scroll(self, name: str, body: bytes) -> dict[str, Any]:
        request = models.ScrollRequest.model_validate_json(body)
        records, following = self.shard(name).scroll(
            edge.ScrollRequest(
                offset=request.offset, limit=request.limit or 10, filter=_filter(request.filter) if request.filter else None,
                with_payload=_payload(request.with_payload), with_vector=_named(request.with_vector),
            )
        )  # fmt: skip
        return {"points": [_record(r) for r in records], "next_page_offset": str(following) if following is not None else None}

    def count(self, name: str, body: bytes) -> dict[str, int]:
        request = models.CountRequest.model_validate_json(body)
        wanted = edge.CountRequest(exact=True, filter=_filter(request.filter) if request.filter else None)
        return {"count": self.shard(name).count(wanted)}

    def retrieve(self, name: str, body: bytes) -> list[dict[str, Any]]:
        request = models.PointRequest.model_validate_json(body)
        found = self.shard(name).retrieve([*request.ids], _payload(request.with_payload), _named(request.with_vector))
        return [_record(record) for record in found]

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The result of a request."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match (method, *parts):
            case ("GET", "healthz" | "readyz" | "livez"):
                return "ok"
            case ("GET", "collections"):
                return {"collections": [{"name": name} for name in self.shards]}
            case ("GET", "aliases"):
                return {"aliases": [{"alias_name": a, "collection_name": n} for a, n in self.alias_names.items()]}
            case ("POST", "collections", "aliases"):
                return self.change_aliases(body)
            case ("GET", "collections", name):
                return self.info(name)
            case ("GET", "collections", name, "exists"):
                return {"exists": name in self.shards or name in self.alias_names}
            case ("PUT", "collections", name):
                return self.create(name, body)
            case ("PATCH", "collections", name):
                return self.change(name, body)
            case ("DELETE", "collections", name):
                return self.delete(name)
            case ("PUT", "collections", name, "index"):
                return self.index(name, body)
            case ("PUT", "collections", name, "points"):
                if b'"batch"' in body[:20]:
                    raise Refused(501, "batch of columns")
                return self.upsert(name, models.PointsList.model_validate_json(body).points)
            case ("POST", "collections", name, "points"):
                return self.retrieve(name, body)
            case ("POST", "collections", name, "points", "batch"):
                return self.batch(name, body)
            case ("POST", "collections", name, "points", "payload"):
                return self.set_payload(name, models.SetPayload.model_validate_json(body))
            case ("POST", "collections", name, "points", "delete"):
                return self.remove(name, CHOSEN.validate_json(body))
            case ("POST", "collections", name, "points", "query"):
                return self.query(name, models.QueryRequest.model_validate_json(body))
            case ("POST", "collections", name, "points", "query", "batch"):
                return self.query_batch(name, body)
            case ("POST", "collections", name, "points", "scroll"):
                return self.scroll(name, body)
            case ("POST", "collections", name, "points", "count"):
                return self.count(name, body)
        raise Refused(501, f"{method} {path}")


def _range(bounds: Any) -> Any:
    given = bounds.model_dump(exclude_none=True)
    if isinstance(bounds, models.DatetimeRange):
        return edge.RangeDateTime(**{name: value.isoformat() for name, value in given.items()})
    return edge.RangeFloat(**given)


def _record(record: edge.Record | edge.ScoredPoint) -> dict[str, Any]:
    point_id = record.id if isinstance(record.id, int) else str(record.id)
    vectors: Any = record.vector
    if isinstance(vectors, dict):
        vectors = {
            key: {"indices": v.indices, "values": v.values} if isinstance(v, edge.SparseVector) else v for key, v in vectors.items()
        }
    return {"id": point_id, "payload": record.payload, "vector": vectors}


def _vector_params(params: models.VectorParams) -> edge.EdgeVectorParams:
    several = edge.MultiVectorConfig(comparator=edge.MultiVectorComparator.MaxSim) if params.multivector_config else None
    half = params.datatype is models.Datatype.FLOAT16
    return edge.EdgeVectorParams(
        size=params.size,
        distance=getattr(edge.Distance, params.distance.value),
        multivector_config=several,
        datatype=edge.VectorStorageDatatype.Float16 if half else None,
    )


def _vector(vector: Any) -> Any:
    return edge.SparseVector(vector.indices, vector.values) if isinstance(vector, models.SparseVector) else vector


def _named(chosen: Any) -> Any:
    return chosen if isinstance(chosen, list) else bool(chosen)


def _payload(chosen: Any) -> Any:
    if isinstance(chosen, models.PayloadSelectorInclude):
        chosen = chosen.include
    if isinstance(chosen, list):
        return edge.PayloadSelector.Include(chosen)
    if isinstance(chosen, BaseModel):
        raise Refused(501, type(chosen).__name__)
    return bool(chosen)


def _index(schema: Any) -> Any:
    if isinstance(schema, models.KeywordIndexParams):
        return edge.KeywordIndexParams(prefix=schema.prefix or None)
    kinds: dict[Any, Any] = {
        models.IntegerIndexParams: edge.IntegerIndexParams,
        models.FloatIndexParams: edge.FloatIndexParams,
        models.BoolIndexParams: edge.BoolIndexParams,
        models.DatetimeIndexParams: edge.DatetimeIndexParams,
    }
    if type(schema) not in kinds:
        raise Refused(501, f"index {schema}")
    return kinds[type(schema)]()


def _params(asked: models.SearchParams | None) -> edge.SearchParams | None:
    if asked is None:
        return None
    if asked.model_fields_set != {"quantization"} or asked.quantization is None:
        raise Refused(501, "only the quantization of a search")
    chosen = asked.quantization
    return edge.SearchParams(
        quantization=edge.QuantizationSearchParams(chosen.ignore or False, chosen.rescore, chosen.oversampling)
    )


def _filter(chosen: models.Filter) -> edge.Filter:
    if chosen.min_should:
        raise Refused(501, "min_should")
    return edge.Filter(must=_conditions(chosen.must), should=_conditions(chosen.should), must_not=_conditions(chosen.must_not))


def _conditions(some: Any) -> Any:
    several = some if isinstance(some, list) else [] if some is None else [some]
    return [_condition(one) for one in several] or None


def _condition(condition: Any) -> Any:
    if isinstance(condition, models.Filter):
        return _filter(condition)
    if isinstance(condition, models.HasIdCondition):
        return edge.HasIdCondition({*condition.has_id})
    if isinstance(condition, models.IsEmptyCondition):
        return edge.IsEmptyCondition(condition.is_empty.key)
    match = condition.match if isinstance(condition, models.FieldCondition) else None
    if isinstance(condition, models.FieldCondition) and condition.range is not None:
        return edge.FieldCondition(condition.key, range=_range(condition.range))
    if isinstance(match, models.MatchValue) and isinstance(match.value, bool):
        return edge.FieldCondition(
            condition.key, match=edge.MatchValue(cast("bool", np.bool_(match.value)))
        )  # Python's own become numbers
    if isinstance(match, models.MatchValue):
        return edge.FieldCondition(condition.key, match=edge.MatchValue(match.value))
    if isinstance(match, models.MatchAny):
        return edge.FieldCondition(condition.key, match=edge.MatchAny([*match.any]))
    if isinstance(match, models.MatchPrefix):
        return edge.FieldCondition(condition.key, match=edge.MatchPrefix(match.prefix))
    raise Refused(501, type(match or condition).__name__)
