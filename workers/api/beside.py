"""The model beside the service, in a process of its own, and the way back where that process is gone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.embed import make_embedder
from pipeline.search.together import Together
from pipeline.settings import Settings
from workers.process.modelserver import ModelGone, RemoteEmbedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


def make(settings: Settings, door: int | None) -> Together:
    """What embeds questions: the process behind `door`, or this one where there is none.

    Raises ModelError, DeviceError, EmbedUnavailable.
    """
    if door is not None:
        try:
            return _Beside(settings, door)
        except ModelGone as gone:
            log.warning("%s; this process loads the model", gone)
    return _here(settings)


def _here(settings: Settings) -> Together:
    return make_embedder(settings, device=settings.device, purpose="questions")


class _Beside:
    """Asks the model's process; loads the model into this one when that is gone. For one thread at a time."""

    def __init__(self, settings: Settings, door: int) -> None:
        self._settings = settings
        self._embedder: Together = RemoteEmbedder(door, settings, settings.device, lambda: None, "questions")

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed questions together: (n, dimension), unit length, in the order of `texts`."""
        try:
            return self._embedder.embed_queries(texts)
        except ModelGone as gone:
            log.warning("%s; this process loads the model", gone)
        self._embedder = _here(self._settings)
        return self._embedder.embed_queries(texts)

    def close(self) -> None:
        """Release the model."""
        with suppress(ModelGone):  # and its memory with it
            self._embedder.close()
