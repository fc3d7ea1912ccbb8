"""Embedding with torch in this process, on any device that torch supports."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.embed.base import FILLS_KEPT, EmbedderInfo, Purpose, unit_rows, wholes
from pipeline.embed.calibrate import Memory, identity, in_best_precision, plans
from pipeline.embed.encoder import Encoder, load_encoder
from pipeline.embed.parts import most_parts
from pipeline.embed.plan import ComputePlan, Plans
from pipeline.embed.turns import Known, Turns
from pipeline.errors import DeviceError
from pipeline.model.device import Device, choose, token_budget
from pipeline.model.files import ModelFiles, check_weights, resolve_model
from pipeline.settings import Settings
from pipeline.text import plural

log = logging.getLogger(__name__)

#: Texts are padded to a multiple of PAD_TOKENS. Kernels are made and kept for each shape, so that few shapes are faster than
#: little padding (225 chunks/s instead of 202) and take less memory (0.75 GB instead of 1.2 GB after 6,000 chunks).
PAD_TOKENS = 16

#: Minimum tokens per call when few texts are divided among the streams of a CPU.
MIN_SHARE = 128

#: Questions are too short to be divided: without padding, eight of them take a core 28 ms, two padded calls at once take two
#: cores 20 ms each, and the cores of a service have requests and searches to compute, too.
FOR_QUESTIONS = ComputePlan(1, 1, packed=True)

#: Minimum token budget per call: an embedder that runs out of memory does not go below it.
MIN_TOKENS = 64


class LocalEmbedder:
    """A model whose transformer runs in the chosen precision, and whose pooling runs in fp32.

    Pooling in half precision loses most of the accuracy (cosine to fp32 of 0.996, compared with 0.9999 this way).
    """

    def __init__(self, encoder: Encoder, files: ModelFiles, device: Device, tokens: int = 0) -> None:
        encoder.to(device.name)
        self._encoder = encoder
        self._device = device
        self._tokenizing = threading.Lock()  # its options are state that two threads must not set at the same time
        self._budget = tokens or token_budget(device.kind, device.memory_bytes)
        self._document_prompt = str(encoder.prompts.get("document") or "")
        self._query_prompt = str(encoder.prompts.get("query") or "")
        self.info = EmbedderInfo(
            model=files.name,
            revision=files.revision,
            dimension=files.dimension,
            max_tokens=files.max_tokens,
            device=device.name,
            dtype="float32",
            chunks_per_s=0.0,
        )
        self.calls = 0
        self._rows: tuple[int, ...] = ()  #: vectors of a text, where it has several
        self.fills: deque[float] = deque(maxlen=FILLS_KEPT)
        self._of_thread = threading.local()  #: how many threads the calls of a stream use
        self._turns = Turns((ComputePlan(1, 1),))
        self._streams = ThreadPoolExecutor(1, "stream")

    @classmethod
    def load(cls, settings: Settings, wanted: str, *, purpose: Purpose = "documents") -> LocalEmbedder:
        """Load the configured model on a device, with the precision that is best there, and the plan that earlier loads settled on.

        Where none has settled yet, the first calls are made with the plan that the machine suggests, and the later ones compare
        it with others. Questions compare nothing and have no parts. For a single one, an unknown device computes in fp32.
        Raises ModelError, DeviceError.
        """
        files = resolve_model(settings)
        device = choose(wanted, require_gpu=settings.require_gpu)
        check_weights(files)

        def load() -> LocalEmbedder:
            return cls(load_encoder(files), files, device, settings.embed_token_budget)

        memory = Memory(settings.data_dir / "calibration.json", identity(device, files.name, settings.dtype))
        found = memory.read()
        dtype, known = found or ("float32" if settings.dtype == "auto" else settings.dtype, Known())
        if found is None and settings.dtype == "auto" and purpose != "question":
            embedder, dtype = in_best_precision(device, load)
            memory.write(dtype, known)  # at once: a short load may never compare plans
        else:
            embedder = load()
            embedder.cast(dtype)
        if settings.part_tokens and purpose == "documents":
            embedder._divide(settings.part_tokens)
        packs = embedder._encoder.packs
        embedder._begin(plans(device, dtype, packs=packs), known, memory if purpose == "documents" else None)
        if purpose != "documents" and device.kind == "cpu" and packs:
            embedder.use(FOR_QUESTIONS)
            if dtype == "bfloat16":  # weights in fp32 need no other order
                embedder._encoder.prepack()
        return embedder

    def cast(self, dtype: str) -> None:
        """Change the precision; from fp32, because digits that a half precision drops are lost."""
        if dtype != self.info.dtype:
            self._encoder.cast(getattr(torch, dtype))
            self.info = replace(self.info, dtype=dtype)

    def use(self, plan: ComputePlan) -> None:
        """Make all calls under one plan."""
        self._follow(Turns((plan,)))

    def _begin(self, plans: Plans, known: Known, memory: Memory | None) -> None:
        """Start with what is known; compare plans and keep the result where there is a memory."""

        def remember(known: Known) -> None:
            self.info = replace(self.info, chunks_per_s=known.texts_per_s or self.info.chunks_per_s)
            if memory is not None:
                memory.write(self.info.dtype, known)

        if known.settled not in plans:  # of another version of this program
            known = Known(rounds=known.rounds)
        self.info = replace(self.info, chunks_per_s=known.texts_per_s)
        self._follow(Turns(plans, known, remember if memory else None))

    def _divide(self, size: int) -> None:
        """From now on, embed the parts of texts too."""
        self._encoder.divide(size, self.info.max_tokens)
        self._rows = (1 + most_parts(self.info.max_tokens, size),)

    def _follow(self, turns: Turns) -> None:
        self._turns = turns
        self._streams.shutdown()
        self._streams = ThreadPoolExecutor(turns.streams, "stream")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents, as `Embedder.embed` says; from any thread.

        Texts of similar length share a call, which saves computing on padding. Raises ValueError for a text over the
        model's limit (nothing is ever truncated), DeviceError when even a single text does not fit into memory.
        """
        if not texts:
            return np.zeros((0, *self._rows, self.info.dimension), np.float32)
        return self._embed(self._encode([self._document_prompt + text for text in texts]))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a question: (dimension,) float32, unit length; one over the limit is cut, because users paste long ones."""
        vector: NDArray[np.float32] = self.embed_queries([text])[0]
        return vector

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed questions as `embed_query` does, together: (n, dimension)."""
        return wholes(self._embed(self._encode([self._query_prompt + text for text in texts], cut=True)))

    def memory_bytes(self) -> int:
        """GPU memory that torch holds for all models of this process; 0 on the CPU."""
        if self._device.kind == "cuda":
            return int(torch.cuda.memory_reserved(self._device.name))
        return int(torch.mps.driver_allocated_memory()) if self._device.kind == "mps" else 0

    def close(self) -> None:
        """Free the device's memory; a second call does no harm."""
        self._streams.shutdown()
        vars(self).pop("_encoder", None)
        if self._device.kind == "cuda":
            torch.cuda.empty_cache()

    def _encode(self, texts: Sequence[str], *, cut: bool = False) -> list[list[int]]:
        """Token ids of each text, special tokens included."""
        limit = self.info.max_tokens
        with self._tokenizing:
            encoded = self._encoder.tokenize(texts, limit if cut else None)
        for number, ids in enumerate(encoded):
            if len(ids) > limit:
                raise ValueError(f"text {number} has {plural(len(ids), 'token')}, the limit of {self.info.model} is {limit}")
        return encoded

    def _embed(self, encoded: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        rows = sorted(range(len(encoded)), key=lambda row: len(encoded[row]), reverse=True)
        vectors = np.zeros((len(encoded), *self._rows, self.info.dimension), np.float32)
        while rows:
            calls = self._calls(rows, encoded)
            results = list(self._streams.map(self._try, ([encoded[row] for row in call] for call in calls)))
            rows = []  # texts that did not fit into memory; retried in smaller calls
            for call, result in zip(calls, results, strict=True):
                if isinstance(result, RuntimeError):
                    rows += call
                    self._shrink(len(call), len(encoded[call[0]]), result)
                else:
                    vectors[call] = result
        return unit_rows(vectors)

    def _calls(self, rows: Sequence[int], encoded: Sequence[Sequence[int]]) -> list[list[int]]:
        """Divide rows, longest text first, into model calls within the token budget."""
        packed, budget = self._turns.plan.packed, self._call_tokens([len(encoded[row]) for row in rows])
        calls: list[list[int]] = []
        cost = left = 0
        for row in rows:
            cost = len(encoded[row]) if packed else cost
            if not calls or cost > left:
                cost = len(encoded[row]) if packed else self._padded(len(encoded[row]))
                calls.append([])
                left = budget
            calls[-1].append(row)
            left -= cost
        self.fills.extend(min(1.0, sum(len(encoded[row]) for row in call) / self._budget) for call in calls)
        return calls

    def _call_tokens(self, lengths: Sequence[int]) -> int:
        """Tokens per call: on a CPU, few texts are divided among all streams; a GPU computes them faster together."""
        if self._device.kind != "cpu":
            return self._budget
        share = sum(lengths) // self._turns.plan.streams + max(lengths) // 2  # calls cannot be of exactly equal size
        return min(self._budget, max(MIN_SHARE, share))

    def _padded(self, tokens: int) -> int:
        """The length to which a text of `tokens` tokens is padded, up to the model's limit."""
        return max(tokens, min(self.info.max_tokens, -(-tokens // PAD_TOKENS) * PAD_TOKENS))

    def _try(self, encoded: Sequence[Sequence[int]]) -> NDArray[np.float32] | RuntimeError:
        """Make one model call; return the error where memory does not suffice."""
        try:
            # Attention looks at pairs of tokens, the rest at tokens: together 4 * hidden * (6 * hidden + length) per token.
            work = sum(len(ids) * (1 + len(ids) / (6 * self.info.dimension)) for ids in encoded)
            with self._turns.call(work, len(encoded)) as plan:
                if getattr(self._of_thread, "threads", 0) != plan.threads:  # to set it clears torch's kernels
                    torch.set_num_threads(plan.threads)
                    self._of_thread.threads = plan.threads
                return self._forward(encoded, packed=plan.packed)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            return error
        finally:
            self.calls += 1

    def _shrink(self, rows: int, longest: int, error: RuntimeError) -> None:
        if rows == 1:
            raise DeviceError(
                f"one text of {plural(longest, 'token')} does not fit into the memory of {self._device.name}"
            ) from error
        self._budget = min(self._budget, max(MIN_TOKENS, rows * longest // 2))
        if self._device.kind == "cuda":
            torch.cuda.empty_cache()
        log.warning("%s is out of memory: up to %d tokens per call from now on", self._device.name, self._budget)

    @torch.inference_mode()
    def _forward(self, encoded: Sequence[Sequence[int]], *, packed: bool) -> NDArray[np.float32]:
        """One model call: (rows, dimension)."""
        if packed:
            found: NDArray[np.float32] = self._encoder.packed(encoded).numpy()
            return found
        batch = self._encoder.batch(encoded, self._padded(max(map(len, encoded))))
        if self._device.kind == "cuda":  # a copy from pinned memory runs next to the computation of other streams
            batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
        vectors = self._encoder({name: tensor.to(self._device.name, non_blocking=True) for name, tensor in batch.items()})
        if vectors.device.type != self._device.kind:
            raise DeviceError(
                f"{self._device.name} was requested, but the model ran on {vectors.device}; check its driver, or set KB_DEVICE"
            )
        result: NDArray[np.float32] = vectors.cpu().numpy()
        return result


def _is_out_of_memory(error: RuntimeError) -> bool:
    # CPU allocations and some back ends raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
