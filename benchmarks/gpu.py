"""Embedding and a whole load on a GPU, on a machine that may be without a network.

    python -m benchmarks.gpu [--model FOLDER ...] [--pages FOLDER] [--budgets 16384,65536,262144] [--rounds 3]

Everything it needs beside the repository comes as files: the model as a folder, or the package of the extra `offline`, and HTML
pages as a folder, or those of python3-doc. For each model: chunks a second by tokens in one call, against
`SentenceTransformer.encode` with its defaults on the same device in the same round, and the share of the device's own matrix
multiplication rate, measured just before. Then a whole load, and the share of its time in which the device was idle.
`--device cpu` tries the benchmark out where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import command
from benchmarks.corpus import chunk_texts, pages
from benchmarks.report import machine, ratios, save, table
from pipeline.embed.local import LocalEmbedder
from pipeline.model.device import Device, choose
from pipeline.model.files import resolve_model
from pipeline.model.tokens import TokenCounter
from pipeline.settings import Settings, load_settings

PLAIN = "sentence-transformers, encode()"

#: Rows and columns of the matrices whose product is timed; large enough that a big GPU is busy.
MATMUL_SIDE = 8192


def matmul_flops(device: Device, dtype: str) -> float:
    """Floating point operations a second in a large matrix product, the best of three tries."""
    side = MATMUL_SIDE if device.kind != "cpu" else 2048
    matrix = torch.randn(side, side, device=device.name, dtype=getattr(torch, dtype))
    best = 0.0
    for _ in range(4):  # the first one pays for the set-up
        began = time.perf_counter()
        for _ in range(5):
            product = matrix @ matrix
        float(product[0, 0])  # waits for the device
        best = max(best, 5 * 2 * side**3 / (time.perf_counter() - began))
    return best


def chunk_flops(transformer: Any, tokens: list[int]) -> float:
    """Operations of one forward pass for a text, on average: twice the weights a token, and attention."""
    config = transformer.auto_model.config
    embeddings = transformer.auto_model.get_input_embeddings()
    weights = sum(value.numel() for value in transformer.parameters()) - sum(value.numel() for value in embeddings.parameters())
    attention = 4 * config.num_hidden_layers * config.hidden_size
    return float(statistics.mean(2 * weights * count + attention * count**2 for count in tokens))


class Utilisation:
    """How busy the device says it is, asked for while something runs; a context manager."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[int] = []  #: percent; empty where the driver's library for it is not installed

    def __enter__(self) -> Utilisation:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while self._device.kind == "cuda" and not self._ended.wait(0.1):
            try:
                self.samples.append(int(torch.cuda.utilization(self._device.name)))
            except Exception:  # of several kinds: the library is missing, or does not know this device
                return


def embedding(settings: Settings, device: Device, budgets: list[int], texts: list[str], rounds: int) -> dict[str, Any]:
    """One model's rates, ratios, cosine and share of the matrix rate."""
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(resolve_model(settings).path), device=device.name)
    rates: dict[str, list[float]] = {PLAIN: []}
    cosine = 1.0
    ours = LocalEmbedder.load(settings, device.name)
    dtype = ours.info.dtype
    ours.close()
    embedders = {}
    for budget in budgets:
        embedder = LocalEmbedder.load(settings.model_copy(update={"embed_token_budget": budget, "dtype": dtype}), device.name)
        embedder.embed(texts[: len(texts) // 4])
        embedders[f"kb-ingest, {budget} tokens a call"] = embedder
    plain.encode(texts[:64], show_progress_bar=False)
    for _ in range(rounds):
        began = time.perf_counter()
        exact = np.asarray(plain.encode(texts, show_progress_bar=False, normalize_embeddings=True), np.float32)
        rates[PLAIN].append(len(texts) / (time.perf_counter() - began))
        for name, embedder in embedders.items():
            began = time.perf_counter()
            vectors = embedder.embed(texts)
            rates.setdefault(name, []).append(len(texts) / (time.perf_counter() - began))
            cosine = min(cosine, float((vectors * exact).sum(1).min()))
    flops = chunk_flops(plain[0], TokenCounter.from_folder(resolve_model(settings).path).count_batch(texts))
    peak = matmul_flops(device, dtype)
    for embedder in embedders.values():
        embedder.close()
    shares = {name: round(statistics.median(values) * flops / peak, 3) for name, values in rates.items()}
    return {
        "dtype": dtype, "rates": rates, "ratios": ratios(rates, PLAIN), "least_cosine": cosine, "matmul_tflops": peak / 1e12,
        "gflop_a_chunk": flops / 1e9, "share_of_matmul_rate": shares,
    }  # fmt: skip


def main() -> None:
    """Measure, print the tables, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", action="append", default=[], help="folder of a model; several times for several")
    parser.add_argument("--pages", type=Path, help="folder of HTML pages; without it those of python3-doc")
    parser.add_argument("--budgets", default="16384,65536,262144", help="tokens of one call, comma-separated")
    parser.add_argument("--texts", type=int, default=8192, help="chunks of one round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = choose(options.device, require_gpu=options.device != "cpu")
    files = sorted(options.pages.rglob("*.html")) if options.pages else pages()
    figures: dict[str, Any] = {"device": device.label, "models": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for model in options.model or [""]:
            settings = load_settings(data_dir=Path(temporary) / "data", model=model or None, ingest_device=options.device)
            texts = chunk_texts(TokenCounter.from_folder(resolve_model(settings).path), options.texts, files=files)
            found = embedding(settings, device, [int(budget) for budget in options.budgets.split(",")], texts, options.rounds)
            figures["models"][model or settings.model] = found
            print(f"{model or settings.model} on {device.label} in {found['dtype']}, least cosine {found['least_cosine']:.5f}")
            rows = [
                (name, round(statistics.median(values)), found["ratios"][name], found["share_of_matmul_rate"][name])
                for name, values in found["rates"].items()
            ]
            print(table(("what", "chunks/s, median", "ratio", "share of the matrix rate"), rows), flush=True)
        with Utilisation(device) as utilisation:
            ran = command.load(Path(temporary) / "load", *map(str, files), device=options.device)
    best = max(statistics.median(values) for values in found["rates"].values())
    busy = ran.answer["chunks"] / best / ran.seconds
    figures["load"] = {
        "pages": len(files), "chunks": ran.answer["chunks"], "seconds": ran.seconds, "idle_by_rate": round(1 - busy, 3),
        "idle_by_driver": round(1 - statistics.mean(utilisation.samples) / 100, 3) if utilisation.samples else None,
    }  # fmt: skip
    print(machine())
    print(f"a whole load: {figures['load']}")
    save("gpu", figures)


if __name__ == "__main__":
    main()
