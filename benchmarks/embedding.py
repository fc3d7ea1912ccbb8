"""Embedding alone against `SentenceTransformer.encode` with its defaults, and against OpenVINO in bf16 where it is installed.

    python -m benchmarks.embedding [--rounds 5] [--texts 240]

All of them get the same texts in each round, in turn; the table gives medians of the ratios of the same round, and the least
cosine to the fp32 vectors of sentence-transformers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import chunk_texts
from benchmarks.report import machine, ratios, save, table
from pipeline.embed.local import LocalEmbedder
from pipeline.model.files import resolve_model
from pipeline.model.tokens import TokenCounter
from pipeline.settings import Settings, load_settings

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

PLAIN = "sentence-transformers, encode()"


def plain(settings: Settings) -> Embed:
    """What nearly everybody does."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(resolve_model(settings).path), device="cpu")

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(model.encode(list(texts), show_progress_bar=False, normalize_embeddings=True), np.float32)

    return embed


def openvino(settings: Settings, folder: Path) -> Embed | None:
    """The transformer in OpenVINO with bf16 where the processor has it, batches sorted by length, pooling in fp32."""
    try:
        import openvino
    except ImportError:
        return None
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(resolve_model(settings).path), device="cpu")
    tokenizer: Any = model.tokenizer
    bert: Any = model[0].auto_model

    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert.requires_grad_(False)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return hidden

    example = torch.ones(2, 16, dtype=torch.int64)
    converted = openvino.convert_model(Bare().eval(), example_input={"input_ids": example, "attention_mask": example})
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "bf16"}
    compiled = openvino.Core().compile_model(converted, "CPU", hints)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
        vectors = np.zeros((len(texts), 384), np.float32)
        queue = openvino.AsyncInferQueue(compiled)

        def done(request: object, about: tuple[list[int], NDArray[np.int64]]) -> None:
            rows, mask = about
            hidden = np.asarray(request.get_output_tensor(0).data, np.float32)  # type: ignore[attr-defined]
            weights = mask[:, :, None].astype(np.float32)
            vectors[rows] = (hidden * weights).sum(1) / weights.sum(1)

        queue.set_callback(done)
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            batch = tokenizer([texts[row] for row in rows], padding=True, return_tensors="np")
            ids, mask = batch["input_ids"].astype(np.int64), batch["attention_mask"].astype(np.int64)
            queue.start_async({0: ids, 1: mask}, (rows, mask))
        queue.wait_all()
        norms: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / norms

    return embed


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=240, help="chunks of one round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(data_dir=Path(folder), ingest_device="cpu")
        texts = chunk_texts(TokenCounter.from_folder(resolve_model(settings).path), options.rounds * options.texts)
        ours = LocalEmbedder.load(settings, "cpu")
        candidates: dict[str, Embed] = {PLAIN: plain(settings), "kb-ingest": ours.embed}
        if (other := openvino(settings, Path(folder))) is not None:
            candidates["OpenVINO, bf16"] = other
        rates: dict[str, list[float]] = {name: [] for name in candidates}
        cosines = dict.fromkeys(candidates, 1.0)
        for embed in candidates.values():
            embed(texts[:32])  # nobody pays for a first call
        for number in range(options.rounds):
            batch = texts[number * options.texts : (number + 1) * options.texts]
            found: dict[str, NDArray[np.float32]] = {}
            for name, embed in candidates.items():
                began = time.perf_counter()
                found[name] = embed(batch)
                rates[name].append(len(batch) / (time.perf_counter() - began))
            for name, vectors in found.items():
                cosines[name] = min(cosines[name], float((vectors * found[PLAIN]).sum(1).min()))
            print(f"round {number + 1}:", ", ".join(f"{name} {values[-1]:.1f}/s" for name, values in rates.items()), flush=True)
        ours.close()
    against = ratios(rates, PLAIN)
    rows = [(name, round(statistics.median(values), 1), against[name], f"{cosines[name]:.5f}") for name, values in rates.items()]
    print(machine())
    print(table(("what", "chunks/s, median", "ratio", "least cosine"), rows))
    save("embedding", {"plan": ours.info.dtype, "rates": rates, "ratios": against, "least_cosines": cosines})


if __name__ == "__main__":
    main()
