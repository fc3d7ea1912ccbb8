"""The store on a Qdrant server, through its REST API. Only this file and `server_query` import qdrant_client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from json import JSONDecodeError
from typing import TypeVar, cast

import httpx
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from typing_extensions import override

from pipeline.errors import CollectionMismatch, CollectionMissing, ConfigError, PermanentError, StoreUnavailable, retried
from pipeline.filters import PREFIX_FIELDS, Filters, Node, Types
from pipeline.settings import Quantization
from pipeline.store import points as convert
from pipeline.store import server_query as made
from pipeline.store.address import check_version, host_of
from pipeline.store.base import StoredPoint, VectorStore
from pipeline.store.conditions import bound
from pipeline.store.names import check_name
from pipeline.store.points import DENSE, META_FIELDS, META_PAGE_POINTS, PAGE_POINTS, PARTS, SPARSE, Point
from pipeline.store.query import Shape, query_plan
from pipeline.types import Chunk, DocumentInfo, EmbeddedChunk, Embedding, Hit, PointMeta
from pipeline.urls import is_loopback, mask_url

T = TypeVar("T")

#: Bytes of one number of a vector as JSON, including the comma.
_NUMBER_BYTES = 22

#: Raised by the client for a response that is not JSON, or is JSON without a result.
_NOT_QDRANT = (JSONDecodeError, AssertionError)


class ServerStore(VectorStore):
    """VectorStore on a server. Every write waits until the server reports `completed`.

    Ids are derived from the text and deletes name their points, so every call can be repeated. After a lost connection, 429
    or 5xx a call is repeated with growing pauses until `retry_s` have passed since it began; then it raises StoreUnavailable.
    """

    def __init__(
        self,
        url: str,
        api_key: str = "",
        *,
        allow_insecure: bool = False,
        timeout_s: float = 60.0,
        retry_s: float = 20.0,
        batch_points: int = 256,
        batch_bytes: int = 8 << 20,
        shards: int = 0,
        replicas: int = 0,
        write_consistency: int = 0,
        quantization: Quantization = "none",
        on_disk: bool = False,
        language: str = "auto",
    ) -> None:
        """Contact nothing yet; `language` is that of texts, as `document_weights` takes it.

        Raises ConfigError for an invalid URL, or one that is unsafe without a key."""
        host = host_of(url)
        self._url = mask_url(url)
        loopback = is_loopback(host)
        if not (loopback or api_key or allow_insecure):
            raise ConfigError(
                f"KB_QDRANT_URL names {host}, which is not this host, and there is no API key: "
                "set KB_API_KEY, or KB_ALLOW_INSECURE=1 if the network itself is safe"
            )
        self._retry_s = retry_s
        self._batch_points = batch_points
        self._batch_bytes = batch_bytes
        self._language = language
        # Cluster settings for a new collection; None leaves them to the server.
        self._shards, self._replicas, self._write_consistency = shards or None, replicas or None, write_consistency or None
        self._quantization, self._on_disk = quantization, on_disk
        self._shapes: dict[str, Shape] = {}
        self._is_new_enough = False
        try:
            # The key is sent as a header: given as `api_key`, the client warns on standard error for every http URL, even on
            # loopback. The version check is off because it makes a request and warns from its own thread.
            self._client = QdrantClient(
                url=url,
                headers={"api-key": api_key} if api_key else None,
                timeout=max(1, round(timeout_s)),
                check_compatibility=False,
                trust_env=not loopback,  # a proxy from the environment cannot reach this host's loopback
            )
        except (ValueError, httpx.InvalidURL) as error:
            raise ConfigError(f"KB_QDRANT_URL {self._url!r}: {error}") from error

    @override
    def create(self, physical: str, dimension: int, *, parts: bool = False) -> None:
        self._check_version()
        if check_name(physical) in self.aliases():
            raise ConfigError(f"collection name {physical!r} is taken by an alias; use another name")
        try:
            stored = self._look(physical).dimension
        except CollectionMissing:
            vectors = made.vector_params(Shape(dimension, sparse=True, parts=parts), self._quantization, on_disk=self._on_disk)
            sparse = {SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)}
            self._call(lambda: self._create_once(physical, vectors, sparse), physical)
            stored = self._look(physical).dimension
        if stored != dimension:
            raise convert.mismatch(physical, stored, dimension)
        schema = self._call(lambda: self._client.get_collection(physical), physical).payload_schema or {}
        for field in convert.INDEXED_FIELDS:
            if field not in schema:
                index = models.KeywordIndexParams(
                    type=models.KeywordIndexType.KEYWORD, prefix=True if field in PREFIX_FIELDS else None
                )
                self._complete(physical, lambda f=field, i=index: self._client.create_payload_index(physical, f, i))  # type: ignore[misc]

    @override
    def collections(self) -> list[str]:
        return sorted(c.name for c in self._call(lambda: self._client.get_collections()).collections)

    @override
    def drop(self, physical: str) -> None:
        self._shapes.pop(physical, None)
        self._call(lambda: self._client.delete_collection(physical), physical)

    @override
    def aliases(self) -> dict[str, str]:
        return {a.alias_name: a.collection_name for a in self._call(lambda: self._client.get_aliases()).aliases}

    @override
    def set_alias(self, alias: str, physical: str) -> None:
        names = self.collections()
        if check_name(alias) in names:
            raise ConfigError(f"alias {alias!r} is the name of a collection; use another name")
        if physical not in names:
            raise CollectionMissing(f"no collection {physical!r} at {self._url}")
        new = models.CreateAlias(collection_name=physical, alias_name=alias)
        changes: list[models.AliasOperations] = [models.CreateAliasOperation(create_alias=new)]
        if alias in self.aliases():
            changes.insert(0, models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        self._call(lambda: self._client.update_collection_aliases(changes), physical)
        self._shapes.pop(alias, None)

    @override
    def dimension(self, physical: str) -> int:
        return self._shape(physical).dimension

    @override
    def upsert(self, physical: str, points: Sequence[Point]) -> None:
        if not points:
            return
        shape = self._shape_for(physical, len(points[0][1].vector))
        convert.check_vectors(points, shape.dimension)
        for batch in convert.batches(points, self._batch_points, self._batch_bytes, _NUMBER_BYTES):
            new = [made.point_of(document, embedded, shape, self._language) for document, embedded in batch]
            self._complete(physical, lambda p=new: self._client.upsert(physical, p, wait=True))  # type: ignore[misc]

    @override
    def document_points(self, physical: str, document_ids: Sequence[str]) -> dict[str, dict[str, PointMeta]]:
        found: dict[str, dict[str, PointMeta]] = {document_id: {} for document_id in document_ids}
        for asked in self._runs(list(found)):
            condition = models.FieldCondition(key="document_id", match=models.MatchAny(any=asked))
            for record in self._scroll(physical, models.Filter(must=[condition]), ["document_id", *META_FIELDS], vectors=False):
                payload = record.payload or {}
                found[str(payload["document_id"])][str(record.id)] = convert.meta_of(payload)
        return found

    @override
    def update_meta(self, physical: str, metas: Mapping[str, PointMeta]) -> None:
        for ids in self._runs(list(metas)):
            # By filter: when points are selected by id, the server rejects ids that are not stored.
            changes = [
                change
                for i in ids
                for change in made.payload_operations(
                    convert.meta_payload(metas[i]), models.Filter(must=[models.HasIdCondition(has_id=[i])])
                )
            ]
            self._complete(physical, lambda c=changes: self._client.batch_update_points(physical, c, wait=True))  # type: ignore[misc]

    @override
    def update_document(self, physical: str, document: DocumentInfo) -> None:
        changes = made.payload_operations(convert.document_payload(document), made.document_filter(document.id))
        self._complete(physical, lambda: self._client.batch_update_points(physical, changes, wait=True))

    @override
    def delete_points(self, physical: str, ids: Sequence[str]) -> None:
        for run in self._runs(list(ids)):
            chosen = models.PointIdsList(points=[*run])
            self._complete(physical, lambda c=chosen: self._client.delete(physical, c, wait=True))  # type: ignore[misc]

    @override
    def delete_documents(self, physical: str, document_ids: Sequence[str]) -> None:
        for run in self._runs(list(document_ids)):
            condition = models.FieldCondition(key="document_id", match=models.MatchAny(any=run))
            chosen = models.FilterSelector(filter=models.Filter(must=[condition]))
            self._complete(physical, lambda c=chosen: self._client.delete(physical, c, wait=True))  # type: ignore[misc]

    @override
    def vectors(self, physical: str, ids: Sequence[str]) -> dict[str, Embedding]:
        found, named = dict[str, Embedding](), self._shape(physical).embedded
        for run in self._runs(list(ids)):
            records = self._call(
                lambda r=run: self._client.retrieve(physical, [*r], with_payload=False, with_vectors=named),  # type: ignore[misc]
                physical,
            )
            found.update((str(record.id), convert.embedding_of(record.vector)) for record in records)
        return found

    @override
    def count(self, physical: str, document_id: str | None = None, filters: Filters = ()) -> int:
        chosen = made.point_filter(self._bound(physical, filters), document_id)
        return self._call(lambda: self._client.count(physical, count_filter=chosen, exact=True), physical).count

    @override
    def document_chunks(
        self, physical: str, document_id: str, filters: Filters = (), ordinals: Sequence[int] | None = None
    ) -> list[Chunk]:
        records = self._scroll(
            physical, made.point_filter(self._bound(physical, filters), document_id, ordinals), True, vectors=False
        )
        return convert.in_order(convert.point_of(str(record.id), record.payload or {}, Embedding([])) for record in records)

    @override
    def search(self, physical: str, vector: Sequence[float] | None, limit: int, filters: Filters, text: str = "") -> list[Hit]:
        shape = self._shape_for(physical, len(vector)) if vector is not None else self._shape(physical)
        wanted = query_plan(physical, shape, vector, text, limit, self._bound(physical, filters))
        if wanted is None:
            return []
        found = self._call(lambda: made.run_query(self._client, physical, wanted), physical)
        return convert.ranked(convert.hit_of(point_id, score, payload) for point_id, score, payload in found)

    @override
    def scan(self, physical: str, *, with_vectors: bool = False) -> Iterator[StoredPoint]:
        for record in self._scroll(physical, None, ["document_id"], vectors=with_vectors):
            document_id = str((record.payload or {}).get("document_id", ""))
            yield StoredPoint(str(record.id), document_id, convert.embedding_of(record.vector).vector if with_vectors else None)

    @override
    def scan_points(self, physical: str) -> Iterator[tuple[DocumentInfo, EmbeddedChunk]]:
        for record in self._scroll(physical, None, True, vectors=True, parts=True):
            yield convert.point_of(str(record.id), record.payload or {}, convert.embedding_of(record.vector))

    @override
    def fields(self, physical: str) -> Types:
        return made.types_of(self._call(lambda: self._client.get_collection(physical), physical).payload_schema or {})

    @override
    def add_fields(self, physical: str, types: Types) -> None:
        known = self.fields(physical)
        for name, kind in types.items():
            if name not in known:
                path, index = f"{convert.FIELDS}.{name}", made.INDEXES[kind]
                self._complete(physical, lambda p=path, i=index: self._client.create_payload_index(physical, p, i))  # type: ignore[misc]

    @override
    def has_parts(self, physical: str) -> bool:
        return self._shape(physical).parts

    @override
    def has_sparse(self, physical: str) -> bool:
        return self._shape(physical).sparse

    @override
    def graph_links(self, physical: str) -> int | None:
        return self._call(lambda: self._client.get_collection(physical), physical).config.hnsw_config.m

    @override
    def set_graph_links(self, physical: str, links: int) -> None:
        graph = models.HnswConfigDiff(m=links)
        self._call(lambda: self._client.update_collection(physical, hnsw_config=graph), physical)

    @override
    def build_graph(self, physical: str, least: int, *, thorough: bool = False) -> bool:
        return False

    @override
    def flush(self, physical: str) -> None:
        """A completed write is already in the server's log."""

    @override
    def yield_turn(self) -> None:
        """A server serves all clients at once."""

    @override
    def close(self) -> None:
        self._client.close()

    def _bound(self, physical: str, filters: Filters) -> Node:
        if filters:
            self._check_version()
        return bound(filters, lambda: self.fields(physical))

    def _check_version(self) -> None:
        """Ask the server for its version once. Raises ConfigError if it is too old for filters by prefix."""
        if not self._is_new_enough:
            check_version(self._call(self._client.info).version, self._url)
            self._is_new_enough = True

    def _shape(self, physical: str) -> Shape:
        if physical not in self._shapes:
            self._shapes[physical] = self._look(physical)
        return self._shapes[physical]

    def _shape_for(self, physical: str, length: int) -> Shape:
        """The shape; read again if its dimension differs from `length`, because an alias may have been moved."""
        if self._shape(physical).dimension != length:
            self._shapes.pop(physical, None)  # another thread may have been faster
        return self._shape(physical)

    def _create_once(
        self, physical: str, vectors: dict[str, models.VectorParams], sparse: dict[str, models.SparseVectorParams]
    ) -> None:
        try:
            self._client.create_collection(
                physical, vectors_config=vectors, sparse_vectors_config=sparse, shard_number=self._shards,
                replication_factor=self._replicas, write_consistency_factor=self._write_consistency,
            )  # fmt: skip
        except UnexpectedResponse as error:
            # Another process was faster, or an earlier attempt of ours succeeded and its response was lost.
            if error.status_code not in (400, 409) or b"already exists" not in error.content:
                raise

    def _look(self, physical: str) -> Shape:
        params = self._call(lambda: self._client.get_collection(physical), physical).config.params
        if not isinstance(params.vectors, dict) or DENSE not in params.vectors:
            raise CollectionMismatch(f"collection {physical!r} at {self._url} was not made by kb-ingest; use another name")
        return Shape(params.vectors[DENSE].size, SPARSE in (params.sparse_vectors or {}), PARTS in params.vectors)

    def _runs(self, items: list[str]) -> Iterator[list[str]]:
        return (items[start : start + self._batch_points] for start in range(0, len(items), self._batch_points))

    def _scroll(
        self, physical: str, chosen: models.Filter | None, payload: bool | list[str], *, vectors: bool, parts: bool = False
    ) -> Iterator[models.Record]:
        offset: models.ExtendedPointId | None = None
        page_points = PAGE_POINTS if vectors or payload is True else META_PAGE_POINTS
        named = (self._shape(physical).embedded if parts else [DENSE]) if vectors else False
        while True:
            page, following = self._call(
                lambda at=offset: self._client.scroll(  # type: ignore[misc]
                    physical, scroll_filter=chosen, limit=page_points, offset=at, with_payload=payload, with_vectors=named
                ),
                physical,
            )
            yield from page
            if following is None:
                return
            offset = cast("models.ExtendedPointId", following)

    def _complete(self, physical: str, write: Callable[[], models.UpdateResult | list[models.UpdateResult]]) -> None:
        """Repeat `write` until the server reports `completed`: an `acknowledged` write may still fail."""

        def once() -> None:
            answer = write()
            for result in answer if isinstance(answer, list) else [answer]:
                if result.status != models.UpdateStatus.COMPLETED:
                    raise StoreUnavailable(
                        f"Qdrant at {self._url} reports a write as {result.status}, not completed; it may be overloaded"
                    )

        self._call(once, physical)

    def _call(self, call: Callable[[], T], physical: str = "") -> T:
        """Repeat the call until it succeeds, a retry cannot help, or the time is up."""

        def once() -> T:
            try:
                return call()
            except (QdrantException, UnexpectedResponse, ResponseHandlingException, *_NOT_QDRANT) as error:
                raise self._translated(error, physical) from error

        return retried(once, self._retry_s)

    def _translated(self, error: Exception, physical: str) -> StoreUnavailable | PermanentError:
        source = error.source if isinstance(error, ResponseHandlingException) else None
        if isinstance(source, httpx.TransportError):
            why = str(source) or type(source).__name__
            return StoreUnavailable(f"Qdrant at {self._url} does not answer ({why}); is it running, is KB_QDRANT_URL right?")
        if isinstance(error, (ResponseHandlingException, *_NOT_QDRANT)):
            return ConfigError(f"the server at {self._url} is not Qdrant; correct KB_QDRANT_URL")
        if not isinstance(error, UnexpectedResponse):
            busy = StoreUnavailable(f"Qdrant at {self._url} asks for a pause: {error}")
            busy.after_s = error.retry_after_s if isinstance(error, ResourceExhaustedResponse) else 0.0
            return busy
        status, said = error.status_code or 0, error.content[:300].decode("utf-8", "replace")
        if status == 404:
            self._shapes.pop(physical, None)
            return CollectionMissing(f"no collection {physical!r} at {self._url}; load documents into it first")
        if status in (401, 403):
            return ConfigError(f"Qdrant at {self._url} rejects the API key ({status}); correct KB_API_KEY")
        if status == 413:
            return ConfigError(f"Qdrant at {self._url} rejects batches of this size; lower KB_UPSERT_BATCH_BYTES")
        if status in (408, 429) or status >= 500:
            return StoreUnavailable(f"Qdrant at {self._url} responds with {status}: {said}")
        if "dimension error" in said or "Not existing vector name" in said:
            self._shapes.pop(physical, None)
            return CollectionMismatch(f"collection {physical!r} at {self._url} was made with another model: {said}")
        return ConfigError(f"Qdrant at {self._url} rejects the request ({status}): {said}")
