"""Text to vectors: the choice of the embedder."""

from __future__ import annotations

from pipeline.embed.base import Embedder, Purpose, QueryEmbedder
from pipeline.errors import ConfigError, InstallationError
from pipeline.model.files import resolve_model
from pipeline.settings import Settings


def make_embedder(settings: Settings, *, device: str, purpose: Purpose = "documents") -> Embedder:
    """The configured embedder: an endpoint at KB_EMBED_URL, or torch in this process on `device`.

    Raises ModelError, DeviceError, EmbedUnavailable, InstallationError, and ConfigError for parts of texts (KB_PART_TOKENS) at an
    endpoint.
    """
    if settings.embed_url:
        if settings.part_tokens and purpose == "documents":
            raise ConfigError("KB_PART_TOKENS needs the vectors of tokens, which KB_EMBED_URL does not give; unset one of them")
        from pipeline.embed.http import HttpEmbedder

        return HttpEmbedder.connect(settings)
    try:
        from pipeline.embed.local import LocalEmbedder
    except Exception as error:  # torch raises ImportError, OSError or RuntimeError, depending on which of its libraries is broken
        raise InstallationError(f"torch cannot be imported, install it again: {type(error).__name__}: {error}") from error

    return LocalEmbedder.load(settings, device, purpose=purpose)


def make_query_embedder(settings: Settings) -> QueryEmbedder:
    """The configured embedder for a caller with few questions: without torch where the model and the settings allow it.

    Raises ModelError, DeviceError, EmbedUnavailable, InstallationError.
    """
    if not settings.embed_url and not settings.require_gpu and settings.device in ("auto", "cpu"):
        from pipeline.embed.questions import QuestionBert, runs_without_torch

        files = resolve_model(settings)
        if runs_without_torch(files):
            return QuestionBert(files)
    return make_embedder(settings, device=settings.device, purpose="question")


def dimension_of(settings: Settings) -> int:
    """Length of the configured model's vectors. Loads no model, but asks an endpoint. Raises ModelError, EmbedUnavailable."""
    if not settings.embed_url:
        return resolve_model(settings).dimension
    embedder = make_embedder(settings, device="cpu")
    embedder.close()
    return embedder.info.dimension
