"""How well each mode of search finds what is asked for: questions about the Python documentation with known answers.

    python -m benchmarks.retrieval [--part-tokens N]

Loads the pages of library, howto and tutorial in embedded mode with the default model, then asks golden/python_docs.jsonl
as `kb-ingest eval` does. Also measures what the weights of the words cost beside the embedding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path

from benchmarks.command import load
from benchmarks.corpus import pages
from benchmarks.report import machine, save, table
from pipeline.embed import make_embedder
from pipeline.search import document_ranking
from pipeline.search.evaluate import NDCG_DEPTH, Scores, evaluate, read_queries
from pipeline.settings import Settings, load_settings
from pipeline.store import open_store
from pipeline.store.base import VectorStore
from pipeline.store.bm25 import document_weights
from pipeline.store.names import open_physical
from workers.cli.search import MODES

GOLDEN = Path(__file__).parent / "golden" / "python_docs.jsonl"
FOLDERS = ("library", "howto", "tutorial")
#: What a question is made of; the golden file says it of each.
KINDS = ("words", "identifier")
K = 10


def weighing_s(texts: list[str]) -> float:
    """Processor seconds a text for its weights, median of some rounds."""
    rounds = []
    for _ in range(5):
        began = time.process_time()
        for text in texts:
            document_weights(text)
        rounds.append((time.process_time() - began) / len(texts))
    return statistics.median(rounds)


def scores(store: VectorStore, settings: Settings) -> dict[str, dict[str, Scores]]:
    """Mode -> kind of question, or `all` -> what was found."""
    embedder = make_embedder(settings, device="cpu")
    physical = open_physical(store, settings.collection)
    judged = read_queries(GOLDEN)
    kinds = [json.loads(line)["kind"] for line in GOLDEN.read_text("utf-8").splitlines()]
    found: dict[str, dict[str, Scores]] = {}
    for mode in MODES:
        ranking = cache(document_ranking(store, physical, embedder, mode, max(K, NDCG_DEPTH)))
        found[mode] = {"all": evaluate(judged, ranking, K)}
        for kind in KINDS:
            chosen = [query for query, its_kind in zip(judged, kinds, strict=True) if its_kind == kind]
            found[mode][kind] = evaluate(chosen, ranking, K)
    embedder.close()
    return found


def main() -> None:
    """Load, ask, print the table, keep the figures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--part-tokens", type=int, default=0, help="KB_PART_TOKENS of the load")
    parts = arguments.parse_args().part_tokens
    files = [path for path in pages() if path.parent.name in FOLDERS]
    roots = sorted({path.parent for path in files})
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        loaded = load(data, *map(str, roots), "--include", "*.html", part_tokens=parts).answer
        settings = load_settings(data_dir=data, device="cpu", part_tokens=parts)
        store = open_store(settings, role="owner")
        try:
            found = scores(store, settings)
            physical = open_physical(store, loaded["collection"])
            weights_s = weighing_s([embedded.chunk.embed_text for _, embedded in store.scan_points(physical)])
        finally:
            store.close()
    share = weights_s * loaded["chunks_per_s"]
    print(machine())
    print(
        f"{loaded['indexed']} pages, {loaded['chunks']} chunks; weights {1e3 * weights_s:.3f} ms a chunk, {share:.1%} of the load"
    )
    columns = ("mode", "questions", f"recall@{K}", f"MRR@{K}", "nDCG@10")
    print(
        table(
            columns,
            [
                (mode, kind, f"{s.recall:.3f}", f"{s.mrr:.3f}", f"{s.ndcg_10:.3f}")
                for mode, kinds in found.items()
                for kind, s in kinds.items()
            ],
        )
    )
    save(
        "retrieval" if not parts else "retrieval_parts",
        {
            "documents": loaded["indexed"], "chunks": loaded["chunks"], "model": loaded["model"], "k": K,
            "weights_ms_per_chunk": round(1e3 * weights_s, 4), "weights_share": round(share, 4),
            "scores": {mode: {kind: asdict(s) for kind, s in kinds.items()} for mode, kinds in found.items()},
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
