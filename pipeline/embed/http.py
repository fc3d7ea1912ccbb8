"""Embedding at an HTTP endpoint: OpenAI-compatible servers (vLLM, TEI, llama.cpp and others) and Ollama."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from pipeline.embed.base import FILLS_KEPT, EmbedderInfo, unit_rows
from pipeline.errors import EmbedUnavailable, ModelError, retried
from pipeline.settings import Settings
from pipeline.text import plural
from pipeline.urls import mask_url

log = logging.getLogger(__name__)

#: Texts per request; halved when the endpoint reports that a request is too large.
REQUEST_TEXTS = 32

#: Concurrent requests: the endpoint batches them, and the connection is never idle.
REQUESTS = 4

#: Texts for measuring the endpoint's rate at startup.
PROBE = ["A short sentence.", "Another one, a little longer than the first, to measure how fast the endpoint answers."] * 4

#: Status codes that a later attempt may not get: too many requests, and all faults of the server.
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})

#: Status codes for a request that is too large; text-embeddings-inference calls one with too many texts invalid.
_TOO_MUCH = frozenset({413, 422})


class HttpEmbedder:
    """Sends texts to an endpoint; safe to use from several threads."""

    def __init__(self, client: httpx.Client, api: str, model: str, settings: Settings, *, retry_s: float) -> None:
        self._client = client
        self._api = api
        self._model = model
        self._retry_s = retry_s
        self._texts = REQUEST_TEXTS
        self.calls = 0
        self.fills: deque[float] = deque(maxlen=FILLS_KEPT)
        self._pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="embed")
        shown = mask_url(str(client.base_url)).rstrip("/")
        self.info = EmbedderInfo(
            model=settings.model,
            revision=settings.model_revision,
            dimension=0,
            max_tokens=0,
            device=shown,
            dtype=api,
            chunks_per_s=0.0,
        )

    @classmethod
    def connect(cls, settings: Settings) -> HttpEmbedder:
        """Find out the endpoint's API and its model's dimension.

        Raises EmbedUnavailable where the endpoint does not answer, ModelError where it does not have the model.
        """
        key = settings.embed_api_key.get_secret_value()
        base = settings.embed_url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = httpx.Client(base_url=base, headers=headers, timeout=settings.request_timeout_s)
        try:
            api = settings.embed_api if settings.embed_api != "auto" else _speaks(client, settings.retry_s)
            embedder = cls(client, api, settings.embed_model or settings.model, settings, retry_s=settings.retry_s)
            began = time.perf_counter()
            vectors = embedder._all(PROBE)
        except BaseException:
            client.close()
            raise
        rate = len(PROBE) / (time.perf_counter() - began)
        embedder.info = replace(embedder.info, dimension=vectors.shape[1], chunks_per_s=round(rate, 1))
        return embedder

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents: (n, dimension) float32, unit length, in the order of `texts`.

        Raises EmbedUnavailable, and ModelError for errors that a retry does not fix, such as a text over the model's limit.
        """
        if not texts:
            return np.zeros((0, self.info.dimension), np.float32)
        # Texts of similar length share a request: most servers compute on the padding, too.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        vectors = self._all([texts[row] for row in order])
        if vectors.shape[1] != self.info.dimension:
            raise ModelError(
                f"{self.info.device} returns {vectors.shape[1]} dimensions, not {self.info.dimension}: check its model"
            )
        result = np.zeros_like(vectors)
        result[order] = vectors
        return unit_rows(result)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a question: (dimension,) float32, unit length."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed questions together: (n, dimension) float32, unit length."""
        return self.embed(texts)

    def memory_bytes(self) -> int:
        """Always 0: the server has its own memory."""
        return 0

    def close(self) -> None:
        """Close all connections."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _all(self, texts: Sequence[str]) -> NDArray[np.float32]:
        parts = [texts[start : start + self._texts] for start in range(0, len(texts), self._texts)]
        # Each part runs in its own copy of the context, as none can be entered twice: log lines name the caller's run and stage.
        contexts = [copy_context() for _ in parts]
        rows = [
            row for part in self._pool.map(lambda texts, context: context.run(self._part, texts), parts, contexts) for row in part
        ]
        if len({len(row) for row in rows}) != 1:
            raise ModelError(f"{self.info.device} returned vectors of different dimensions: check its model")
        return np.array(rows, np.float32)

    def _part(self, texts: Sequence[str]) -> list[list[float]]:
        """Send one request, or two halves where it is too large."""
        path, body = self._request(texts)
        response = _patiently(lambda: self._client.post(path, json=body), self._retry_s)
        self.calls += 1
        self.fills.append(min(1.0, len(texts) / self._texts))
        if response.status_code in _TOO_MUCH and len(texts) > 1:
            self._texts = max(1, min(self._texts, len(texts) // 2))
            half = len(texts) // 2
            return self._part(texts[:half]) + self._part(texts[half:])
        if response.status_code != 200:
            raise ModelError(f"{self.info.device}{path}: {response.status_code}: {response.text.strip()[:300]}")
        vectors = self._vectors(response)
        if len(vectors) != len(texts):
            raise ModelError(f"{self.info.device} returned {plural(len(vectors), 'vector')} for {plural(len(texts), 'text')}")
        return vectors

    def _request(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        if self._api == "ollama":
            # Without `truncate`, Ollama silently cuts long texts.
            return "/api/embed", {"model": self._model, "input": list(texts), "truncate": False}
        return "/v1/embeddings", {"model": self._model, "input": list(texts), "encoding_format": "float"}

    def _vectors(self, response: httpx.Response) -> list[list[float]]:
        try:
            answer = response.json()
            if self._api == "ollama":
                rows = answer["embeddings"]
            else:
                rows = [item["embedding"] for item in sorted(answer["data"], key=lambda item: item["index"])]
            # JSON has no NaN; servers write null instead. It becomes NaN again for the check before storing.
            return [[float("nan") if number is None else float(number) for number in row] for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{self.info.device} does not answer like the {self._api} API; set KB_EMBED_API") from error


def _speaks(client: httpx.Client, retry_s: float) -> str:
    """`ollama` where Ollama's version route answers, else `openai`."""
    response = _patiently(lambda: client.get("/api/version"), retry_s)
    try:
        return "ollama" if response.status_code == 200 and "version" in response.json() else "openai"
    except ValueError:
        return "openai"


def _patiently(send: Callable[[], httpx.Response], retry_s: float) -> httpx.Response:
    """Retry until a final answer arrives; raises EmbedUnavailable after `retry_s`."""

    def once() -> httpx.Response:
        try:
            response = send()
        except httpx.TransportError as error:
            raise _away(error.request.url, str(error) or type(error).__name__) from error
        if response.status_code in _RETRIED:
            raise _away(response.url, f"{response.status_code} {response.text.strip()[:200]}")
        return response

    return retried(once, retry_s)


def _away(url: httpx.URL, why: str) -> EmbedUnavailable:
    return EmbedUnavailable(f"the embedding endpoint {mask_url(str(url))} does not answer: {why}; check it and KB_EMBED_URL")
