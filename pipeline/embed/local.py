"""Embedding with torch in this process, on whatever device torch has."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.device import Device, choose, usable_cores
from pipeline.embed import EmbedderInfo, unit_rows
from pipeline.embed.calibrate import CANARY_TEXTS, choose_dtype
from pipeline.errors import DeviceError, ModelError
from pipeline.model import ModelFiles, check_weights, resolve_model
from pipeline.settings import Settings

log = logging.getLogger(__name__)

#: Tokens of one model call. On a CPU more than this falls out of its caches; a GPU needs many to be busy.
CPU_TOKENS = 4096
GPU_TOKENS = 65536

#: Memory a GPU needs for each token of a call with a small model, generously; larger models halve their way down.
GPU_BYTES_PER_TOKEN = 96 * 1024

#: Never fewer texts in a call than this when memory runs out before giving up.
LEAST_TOKENS = 64


class LocalEmbedder:
    """A sentence-transformers model whose transformer runs in the chosen precision, and whose pooling runs in fp32.

    Pooling in half precision is what costs the precision (cosine to fp32 0.996, against 0.9999 this way).
    """

    def __init__(self, model: Any, files: ModelFiles, device: Device, dtype: torch.dtype, token_budget: int = 0) -> None:
        self._model = model.eval().to(device.name)
        self._device = device
        self._dtype = dtype
        self._transformer = model[0].to(dtype)
        self._rest = [model[number].float() for number in range(1, len(model))]
        self._tokenizer = model.tokenizer
        self._budget = token_budget or _budget(device)
        self._document_prompt = str(model.prompts.get("document") or "")
        self._query_prompt = str(model.prompts.get("query") or "")
        name = str(dtype).removeprefix("torch.")
        self.info = EmbedderInfo(files.name, files.revision, files.dimension, files.max_tokens, device.name, name, 0.0)

    @classmethod
    def load(cls, settings: Settings, wanted: str) -> LocalEmbedder:
        """Load the configured model on a device, in the precision that pays there.

        Raises ModelError, DeviceError.
        """
        files = resolve_model(settings)
        device = choose(wanted, require_gpu=settings.require_gpu)
        check_weights(files)
        torch.set_num_threads(usable_cores())
        dtype = getattr(torch, settings.dtype) if settings.dtype != "auto" else None
        if dtype is None:
            dtype = choose_dtype(
                settings.data_dir / "calibration.json",
                device,
                files.name,
                lambda candidate: cls(_load(files), files, device, candidate),
            )
        embedder = cls(_load(files), files, device, dtype, settings.embed_token_budget)
        embedder.measure()
        return embedder

    def measure(self) -> float:
        """Embed the canary texts and note the rate in `info`; returns chunks a second.

        Raises DeviceError when the numbers were not computed where they should have been.
        """
        self._forward(self._encode(CANARY_TEXTS[:2]))  # the first call on a device pays for its set-up
        began = time.perf_counter()
        self.embed(CANARY_TEXTS)
        rate = len(CANARY_TEXTS) / (time.perf_counter() - began)
        self.info = replace(self.info, chunks_per_s=round(rate, 1))
        return rate

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents: (n, dimension) float32, unit length, in the order of `texts`.

        Texts of similar length share a call, so that little is computed on padding. Raises ValueError for a text over the
        model's limit (nothing is ever truncated), DeviceError when even a single text does not fit into memory.
        """
        if not texts:
            return np.zeros((0, self.info.dimension), np.float32)
        return self._embed(self._encode([self._document_prompt + text for text in texts]))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a question: (dimension,) float32, unit length; one over the limit is cut, as people paste long ones."""
        vector: NDArray[np.float32] = self._embed(self._encode([self._query_prompt + text], cut=True))[0]
        return vector

    def close(self) -> None:
        """Give the device's memory back."""
        self._model = self._transformer = None
        self._rest = []
        if self._device.kind == "cuda":
            torch.cuda.empty_cache()

    def _encode(self, texts: Sequence[str], *, cut: bool = False) -> list[list[int]]:
        """Token ids of each text, special tokens included."""
        limit = self.info.max_tokens
        encoded: list[list[int]] = self._tokenizer(
            list(texts), padding=False, truncation=cut, max_length=limit if cut else None, return_attention_mask=False,
            return_token_type_ids=False, verbose=False,
        )["input_ids"]  # fmt: skip
        for number, ids in enumerate(encoded):
            if len(ids) > limit:
                raise ValueError(f"text {number} has {len(ids)} tokens, {self.info.model} takes {limit}")
        return encoded

    def _embed(self, encoded: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]), reverse=True)
        vectors = np.zeros((len(encoded), self.info.dimension), np.float32)
        start = 0
        while start < len(order):
            longest = len(encoded[order[start]])
            rows = order[start : start + max(1, self._budget // longest)]
            try:
                vectors[rows] = self._forward([encoded[row] for row in rows])
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                self._shrink(len(rows), longest, error)
                continue
            start += len(rows)
        return unit_rows(vectors)

    def _shrink(self, rows: int, longest: int, error: RuntimeError) -> None:
        if rows == 1:
            raise DeviceError(f"one text of {longest} tokens does not fit into the memory of {self._device.name}") from error
        self._budget = max(LEAST_TOKENS, rows * longest // 2)
        if self._device.kind == "cuda":
            torch.cuda.empty_cache()
        log.warning("%s is out of memory: %d tokens a call from now on", self._device.name, self._budget)

    @torch.inference_mode()
    def _forward(self, encoded: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One model call: (rows, dimension)."""
        batch = self._tokenizer.pad({"input_ids": [list(ids) for ids in encoded]}, return_tensors="pt", verbose=False)
        features: dict[str, Any] = {name: tensor.to(self._device.name, non_blocking=True) for name, tensor in batch.items()}
        features = self._transformer(features)
        for name, value in features.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                features[name] = value.float()
        for module in self._rest:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"]
        if vectors.device.type != self._device.kind:
            raise DeviceError(f"asked for {self._device.name}, computed on {vectors.device}")
        result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result


def _load(files: ModelFiles) -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        # Loaded on the CPU first: a half-precision copy is all that ever reaches the device.
        return SentenceTransformer(
            str(files.path), device="cpu", trust_remote_code=False, local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except Exception as error:  # the loader's errors are of many kinds
        raise ModelError(f"cannot load {files.name} from {files.path}: {error}") from error


def _budget(device: Device) -> int:
    if device.kind == "cpu":
        return CPU_TOKENS
    if device.memory_bytes is None:
        return GPU_TOKENS // 4
    return max(CPU_TOKENS, min(GPU_TOKENS, device.memory_bytes // 2 // GPU_BYTES_PER_TOKEN))


def _is_out_of_memory(error: RuntimeError) -> bool:
    # CPU allocations and some back ends raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
