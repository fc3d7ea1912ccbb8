"""Reranking: a cross-encoder reads the question with each candidate, which is slower than comparing vectors and more exact."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import httpx

from pipeline.errors import KbError, ModelError, RerankUnavailable
from pipeline.settings import Settings, mask_url
from pipeline.types import Hit, embed_text

log = logging.getLogger(__name__)

#: Texts in one call of a model or request: text-embeddings-inference refuses more.
BATCH_TEXTS = 32

#: Seconds for which a reranker that did not answer is not asked again, so that not every search waits for it.
PAUSE_S = 30.0


class Reranker(Protocol):
    """Scores texts by how well they answer a question; safe to use from several threads."""

    def scores(self, query: str, texts: Sequence[str], deadline: float) -> list[float]:
        """One score per text, higher for better, usually 0 to 1.

        Raises RerankUnavailable if there is no answer by `deadline` (of time.monotonic), and ModelError.
        """

    def close(self) -> None:
        """Release the model or the connections."""


class Reranking:
    """Puts hits into the order of the configured reranker; for any number of threads.

    A reranker that fails costs a search its better order, and nothing else: the hits stay as they were, with a note.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loading = threading.Lock()
        self._reranker: Reranker | None = None
        self._broken = ""  #: why it cannot be loaded
        self._away_until, self._away = 0.0, ""  #: time.monotonic() before which it is not asked again, and why

    @property
    def configured(self) -> bool:
        """Whether there is a reranker."""
        return bool(self._settings.rerank_url or self._settings.rerank_model)

    def warm(self) -> None:
        """Load the model before the first question; log why it cannot be loaded, as searches do without it."""
        if self.configured:
            try:
                self._load()
            except KbError as error:
                log.error("%s", error)

    def _load(self) -> Reranker:
        """Load the model, if that has not been done. Raises ModelError, DeviceError."""
        with self._loading:
            if self._broken:
                raise ModelError(self._broken)
            if self._reranker is None:
                try:
                    self._reranker = (HttpReranker if self._settings.rerank_url else LocalReranker)(self._settings)
                except KbError as error:
                    self._broken = str(error)
                    raise
            return self._reranker

    def order(self, query: str, hits: Sequence[Hit]) -> tuple[list[Hit], str]:
        """The hits by the reranker's scores, and no note; or the hits as they are, and a note that says why."""
        try:
            if time.monotonic() < self._away_until:
                raise RerankUnavailable(self._away)
            reranker = self._load()
            texts = [embed_text(hit.heading_path, hit.text) for hit in hits]
            scores = reranker.scores(query, texts, time.monotonic() + self._settings.rerank_timeout_s)
        except RerankUnavailable as error:
            if time.monotonic() >= self._away_until:
                log.warning("%s", error)
                self._away_until, self._away = time.monotonic() + PAUSE_S, str(error)
            return list(hits), f"not reranked: {error}"
        except KbError as error:
            return list(hits), f"not reranked: {error}"
        scored = [replace(hit, score=score) for hit, score in zip(hits, scores, strict=True)]
        return sorted(scored, key=lambda hit: -hit.score), ""

    def close(self) -> None:
        """Release the reranker."""
        if self._reranker is not None:
            self._reranker.close()


class HttpReranker:
    """A model behind the rerank API of text-embeddings-inference, or of Cohere, which others offer as well."""

    def __init__(self, settings: Settings) -> None:
        """`KB_RERANK_URL` is the server's address, or the whole URL of its route if that ends in `rerank`."""
        key = settings.rerank_api_key.get_secret_value()
        self._api = settings.rerank_api
        self._model = settings.rerank_model
        url = settings.rerank_url.rstrip("/")
        self._url = url if url.endswith("rerank") else url + ("/rerank" if self._api == "tei" else "/v2/rerank")
        self._client = httpx.Client(headers={"Authorization": f"Bearer {key}"} if key else {})

    def scores(self, query: str, texts: Sequence[str], deadline: float) -> list[float]:
        """See Reranker."""
        found: list[float] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            found += self._batch(query, texts[start : start + BATCH_TEXTS], deadline)
        return found

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _batch(self, query: str, texts: Sequence[str], deadline: float) -> list[float]:
        if self._api == "tei":
            body: dict[str, Any] = {"query": query, "texts": list(texts), "truncate": True}
        else:
            body = {"model": self._model, "query": query, "documents": list(texts), "top_n": len(texts)}
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise self._away("it takes longer than KB_RERANK_TIMEOUT_S")
        try:
            response = self._client.post(self._url, json=body, timeout=left_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(str(error) or type(error).__name__) from error
        if response.status_code != 200:
            raise self._away(f"{response.status_code} {response.text.strip()[:200]}")
        return self._read(response, len(texts))

    def _read(self, response: httpx.Response, number: int) -> list[float]:
        try:
            answer = response.json()
            if self._api == "tei":
                rows = {int(row["index"]): float(row["score"]) for row in answer}
            else:
                rows = {int(row["index"]): float(row["relevance_score"]) for row in answer["results"]}
            return [rows[index] for index in range(number)]
        except (ValueError, KeyError, TypeError) as error:
            shown = mask_url(self._url)
            raise ModelError(f"{shown} does not answer like the {self._api} API; check KB_RERANK_API") from error

    def _away(self, why: str) -> RerankUnavailable:
        return RerankUnavailable(f"the reranker {mask_url(self._url)} does not answer: {why}; check it and KB_RERANK_URL")


class LocalReranker:
    """A cross-encoder of sentence-transformers in a local folder, on this process's device."""

    def __init__(self, settings: Settings) -> None:
        """Load it. Raises ModelError, DeviceError."""
        folder = Path(settings.rerank_model).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelError(f"there is no cross-encoder in {folder}: set KB_RERANK_MODEL to a folder with its files")
        from pipeline.model.device import choose

        device = choose(settings.device, require_gpu=settings.require_gpu)
        from sentence_transformers import CrossEncoder
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            self._model = CrossEncoder(
                str(folder), device=device.name, local_files_only=True, trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )  # fmt: skip
        except Exception as error:  # the loaders raise many kinds of errors
            raise ModelError(f"cannot load the cross-encoder of {folder}: {error}") from error
        if self._model.num_labels != 1:
            raise ModelError(f"the model of {folder} gives {self._model.num_labels} numbers for a text, a reranker gives one")
        self._turn = threading.Lock()

    def scores(self, query: str, texts: Sequence[str], deadline: float) -> list[float]:
        """See Reranker."""
        # Texts of similar length share a call, which computes on the padding, too.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found = [0.0] * len(texts)
        for start in range(0, len(order), BATCH_TEXTS):
            rows = order[start : start + BATCH_TEXTS]
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._turn.acquire(timeout=left_s):
                raise RerankUnavailable("the cross-encoder takes longer than KB_RERANK_TIMEOUT_S")
            try:
                pairs = [(query, texts[row]) for row in rows]
                scores = self._model.predict(pairs, batch_size=BATCH_TEXTS, show_progress_bar=False)
            except RuntimeError as error:  # such as a GPU without memory
                raise RerankUnavailable(f"the cross-encoder failed: {error}") from error
            finally:
                self._turn.release()
            for row, score in zip(rows, scores.tolist(), strict=True):
                found[row] = float(score)
        return found

    def close(self) -> None:
        """Nothing is held beyond memory."""
