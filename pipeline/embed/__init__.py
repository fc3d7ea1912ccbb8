"""Text to vectors: the choice of the embedder."""

from __future__ import annotations

from pipeline.embed.base import Embedder
from pipeline.model.files import resolve_model
from pipeline.settings import Settings


def make_embedder(settings: Settings, *, device: str, measured: bool = True) -> Embedder:
    """The configured embedder: an endpoint at KB_EMBED_URL, or torch in this process on `device`.

    A caller that embeds one question is not `measured`: there is nothing to compare at a single question.
    Raises ModelError, DeviceError, EmbedUnavailable.
    """
    if settings.embed_url:
        from pipeline.embed.http import HttpEmbedder

        return HttpEmbedder.connect(settings)
    from pipeline.embed.local import LocalEmbedder

    return LocalEmbedder.load(settings, device, measured=measured)


def dimension_of(settings: Settings) -> int:
    """Length of the configured model's vectors. Loads no model, but asks an endpoint. Raises ModelError, EmbedUnavailable."""
    if not settings.embed_url:
        return resolve_model(settings).dimension
    embedder = make_embedder(settings, device="cpu")
    embedder.close()
    return embedder.info.dimension
