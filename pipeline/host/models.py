"""The embedding models that `kb-ingest assess` chooses from, with their needs and merits. docs/models.md explains them."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.settings import DEFAULT_MODEL

#: Resident memory of an embed worker without its model: Python, torch, transformers, store and windows of chunks. Measured
#: with the smallest model and reduced by that model's share (docs/performance.md).
WORKER_BYTES = 900 << 20

#: Bytes per parameter on a CPU: read as fp32, which is in memory next to its bf16 copy for a moment.
CPU_BYTES_PER_PARAMETER = 6

#: Bytes per parameter on a GPU, in half precision, without activations.
GPU_BYTES_PER_PARAMETER = 2

#: Bytes of activations on a GPU per number of a hidden state, with a budget of 65,536 tokens.
GPU_ACTIVATION_BYTES = 65_536 * 24


@dataclass(frozen=True, slots=True)
class ModelCard:
    """An embedding model."""

    name: str  #: hub id
    dimension: int
    max_tokens: int  #: limit for one text
    parameters: int
    languages: str
    licence: str
    retrieval: float  #: nDCG@10 over the 15 retrieval sets of MTEB (English, version 1), by the model cards of BAAI/bge-*-en-v1.5
    chunks_per_s: float  #: with chunks of 208 tokens in bf16 on two cores with AMX; measured with random weights of that shape

    def worker_bytes(self, kind: str = "cpu") -> int:
        """Host memory that one embed worker needs."""
        return WORKER_BYTES + self.parameters * CPU_BYTES_PER_PARAMETER * (2 if kind == "cpu" else 1)

    def device_bytes(self) -> int:
        """GPU memory that one embed worker needs."""
        return self.parameters * GPU_BYTES_PER_PARAMETER + self.dimension * GPU_ACTIVATION_BYTES


#: By quality, the best last. All have safetensors weights and need neither custom code nor a prefix before a text.
MODELS = (
    ModelCard(DEFAULT_MODEL, 384, 256, 22_700_000, "English", "Apache-2.0", 41.95, 212),
    ModelCard("BAAI/bge-small-en-v1.5", 384, 512, 33_400_000, "English", "MIT", 51.68, 111),
    ModelCard("BAAI/bge-base-en-v1.5", 768, 512, 109_000_000, "English", "MIT", 53.25, 38),
    ModelCard("BAAI/bge-large-en-v1.5", 1024, 512, 335_000_000, "English", "MIT", 54.29, 10.6),
)


def card_of(name: str) -> ModelCard | None:
    """The card of a model; None if it is not in the table."""
    return next((card for card in MODELS if card.name == name), None)
