"""Reranking at an HTTP endpoint: text-embeddings-inference, Cohere and compatible servers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx

from pipeline.errors import ModelError, RerankUnavailable
from pipeline.search.rerank import BATCH_TEXTS
from pipeline.settings import Settings
from pipeline.urls import mask_url


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
