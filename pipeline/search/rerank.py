"""Reranking: a cross-encoder reads the question with each candidate, which is slower than comparing vectors and more exact."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from pipeline.errors import KbError, ModelError, RerankUnavailable
from pipeline.settings import Settings
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
                    self._reranker = _made(self._settings)
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


def _made(settings: Settings) -> Reranker:
    """The configured reranker. Raises ModelError, DeviceError."""
    if not settings.rerank_url:
        return LocalReranker(settings)
    from pipeline.search.rerank_http import HttpReranker  # the only one that needs httpx

    return HttpReranker(settings)


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
