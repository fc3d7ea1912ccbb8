"""Puts the figures of results/*.json into docs/performance.md and docs/search.md, and draws pictures.

    python -m benchmarks.page

Everything between a page's two marks is written anew; the sentences around it are written by hand.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, table

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
SEARCH_PAGE = PAGE.with_name("search.md")
RETRIEVAL_PAGE = PAGE.with_name("retrieval.md")
PICTURES = PAGE.parent / "pictures"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def results(name: str) -> Any:
    """The figures that a benchmark has kept."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


#: Takes what, target, measured, and whether it is met.
Row = Callable[[str, str, str, bool], None]


def rows() -> list[tuple[str, str, str, str]]:
    """What, target, measured, and whether it is met; the targets are those of the design."""
    found: list[tuple[str, str, str, str]] = []

    def row(what: str, target: str, measured: str, met: bool) -> None:
        found.append((what, target, measured, "yes" if met else "**no**"))

    for part in (_embedding, _load, _small, _parsing, _again, _overhead, _footprint):
        part(row)
    return found


def _embedding(row: Row) -> None:
    embedding = results("embedding")
    ratios = embedding["ratios"]
    cosine = embedding["least_cosines"]["kb-ingest"]
    row(
        "embedding alone, against `SentenceTransformer.encode`",
        "4 times, cosine 0.999",
        f"{ratios['kb-ingest']} times, {cosine:.4f}",
        ratios["kb-ingest"] >= 4 and cosine >= 0.999,
    )
    if "OpenVINO, bf16" in ratios:
        against = statistics.median(
            ours / other for ours, other in zip(embedding["rates"]["kb-ingest"], embedding["rates"]["OpenVINO, bf16"], strict=True)
        )
        row("the same against OpenVINO in bf16", "1.0 times", f"{against:.2f} times", against >= 1)


def _load(row: Row) -> None:
    load = results("load")
    for name in load["rates"]:
        if not name.startswith("kb-ingest"):
            continue
        if (script := load["ratios"].get("LangChain script", {}).get(name)) is not None:
            row(f"`{name}`, whole process, against a LangChain script", "4 times", f"{script} times", script >= 4)
        share = load["ratios"]["embedding alone"][name]
        row(f"`{name}`, whole process, against embedding alone", "75 %", f"{100 * share:.0f} %", share >= 0.75)


def _small(row: Row) -> None:
    if not (RESULTS / "small.json").exists():
        return
    for name, its in results("small")["rates"].items():
        shares = [load / alone for load, alone in zip(its["load"], its["alone"], strict=True)]
        share = statistics.median(shares)
        measured = f"{100 * share:.0f} % ({100 * min(shares):.0f} to {100 * max(shares):.0f} %)"
        row(f"load of {name}, after its start, against embedding alone", "85 %", measured, share >= 0.85)


def _parsing(row: Row) -> None:
    parsing = results("parsing")
    pages = statistics.median(parsing["pdf_pages_per_s"])
    row("pdf, parse and chunk, a core", "200 pages/s", f"{pages:.0f} pages/s", pages >= 200)
    for name, share in parsing["median_shares"].items():
        row(f"{name}, CPU of parsing and chunking by that of embedding", "under 10 %", f"{100 * share:.1f} %", share < 0.1)


def _again(row: Row) -> None:
    again = results("again")
    for name, rates in again["rates"].items():
        rate = statistics.median(rates)
        target = "5,000 files/s" if "time" in name else "none"
        row(
            f"second load of {again['files']:,} unchanged files, {name}",
            target,
            f"{rate:,.0f} files/s",
            rate >= 5000 or target == "none",
        )
    most = max(again["embedded_after_edit"])
    row(f"one paragraph edited in a document of {again['chunks']:,} chunks", "at most 3 embedded", f"{most}, at most", most <= 3)
    repeated = again["repeated"]
    row(
        "equal chunks inside a batch", "embedded once",
        f"{repeated['equal']['chunks']:,} equal chunks in {repeated['equal']['seconds']:.1f} s, "
        f"{repeated['distinct']['chunks']:,} different ones in {repeated['distinct']['seconds']:.1f} s",
        repeated["equal"]["seconds"] < repeated["distinct"]["seconds"],
    )  # fmt: skip


def _overhead(row: Row) -> None:
    overhead = {int(known): parts["total"] for known, parts in results("overhead")["ms"].items()}
    row(
        "ledger, staging and queue for one small document", "under 2 ms, constant",
        ", ".join(f"{ms:.2f} ms at {known:,}" for known, ms in overhead.items()),
        max(overhead.values()) < 2 and max(overhead.values()) < 1.5 * min(overhead.values()),
    )  # fmt: skip


def _footprint(row: Row) -> None:
    footprint = results("footprint")
    # The model has a process of its own where workers are forked.
    small, large = (mb["embed worker"] + mb.get("model", 0) for mb in footprint["peak_mb"].values())
    row(
        "memory of the embed worker and its model, 1 and 10 times the corpus",
        "bounded",
        f"{small:.0f} and {large:.0f} MB",
        large < 1.5 * small,
    )
    peak = max(mb for mb, _ in footprint["loader"].values())
    row(f"memory of the loader with {footprint['files']:,} files", "under 300 MB", f"{peak:.0f} MB", peak < 300)
    start = statistics.median(footprint["start_s"])
    row("a load of one small file, start to end", "under 8 s", f"{start:.1f} s", start < 8)


def written() -> str:
    """The part of the page between the marks."""
    machine = results("embedding")["machine"]
    about = (
        f"Measured on {machine['cores']} cores{' with AMX' if machine['amx_bf16'] else ''}, {machine['memory_gb']} GB, "
        f"torch {machine['torch']}, Python {machine['python']}; medians of rounds in which both sides took turns."
    )
    return "\n\n".join([BEGIN, about, table(("what", "target", "measured", "met"), rows()), END])


def searches() -> str:
    """The same part of the page about searches."""
    found = results("retrieval")
    k, kinds = found["k"], {"all": "all", "words": "in words", "identifier": "for an identifier"}
    count = {kind: scores["queries"] for kind, scores in found["scores"]["dense"].items()}
    figures = [
        (f"{name} ({count[kind]})", f"`{mode}`", *(f"{scores[kind][measure]:.3f}" for measure in ("recall", "mrr", "ndcg_10")))
        for kind, name in kinds.items()
        for mode, scores in found["scores"].items()
    ]
    about = (
        f"{found['documents']} pages, {found['chunks']:,} chunks, {found['model']}. Making the weights of the words took "
        f"{found['weights_ms_per_chunk']:.2f} ms a chunk, {100 * found['weights_share']:.1f} % of the time of the load."
    )
    return "\n\n".join([BEGIN, about, table(("questions", "mode", f"recall@{k}", f"MRR@{k}", "nDCG@10"), figures), END])


def judged() -> str:
    """The same part of the page about sets that people judged."""
    found = results("judged")
    sets, ways = list(found["sets"]), list(next(iter(found["ndcg_10"].values())))
    compared = list(next(iter(found["p"].values())))
    scores = [(way, *(f"{found['ndcg_10'][name][way]:.3f}" for name in sets)) for way in ways]
    tests = [(one, *(f"{found['p'][name][one]:.3f}" for name in sets)) for one in compared]
    best = [
        (mode, *(f"{its[name]:.3f}" for name in ("recall", "precision", "iou")), f"{its['characters']:,.0f}")
        for mode, its in found["excerpts"].items()
    ]
    excerpts = table(("best five chunks", "recall", "precision", "IoU", "characters"), best)
    return "\n\n".join([BEGIN, table(("nDCG@10", *sets), scores), table(("p of a difference", *sets), tests), excerpts, END])


def draw() -> None:
    """The scaling curves."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "kb-ingest"  # the same figures give the same file
    from matplotlib import pyplot

    PICTURES.mkdir(exist_ok=True)
    overhead = results("overhead")["ms"]
    known = [int(number) for number in overhead]
    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    names = [name for name in next(iter(overhead.values())) if name not in ("total", "one look of the display")]
    axes.stackplot(known, [[overhead[str(number)][name] for number in known] for name in names], labels=names)
    axes.axhline(2, color="grey", linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel="documents in the ledger", ylabel="ms a document", ylim=(0, 2.2), xlim=(min(known), max(known)))
    axes.legend(loc="upper left", ncols=3, fontsize="small")
    figure.tight_layout()
    figure.savefig(PICTURES / "overhead.svg", metadata={"Date": None})

    peaks = results("footprint")["peak_mb"]
    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    roles = list(next(iter(peaks.values())))
    for shift, (corpus, found) in enumerate(peaks.items()):
        axes.bar([place + 0.4 * shift for place in range(len(roles))], [found[role] for role in roles], width=0.38, label=corpus)
    axes.set(ylabel="peak resident MB", xticks=[place + 0.2 for place in range(len(roles))])
    axes.set_xticklabels(roles)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(PICTURES / "memory.svg", metadata={"Date": None})


def main() -> None:
    """Write the tables of the pages, and the pictures."""
    for page, part in ((PAGE, written()), (SEARCH_PAGE, searches()), (RETRIEVAL_PAGE, judged())):
        head, _, rest = page.read_text("utf-8").partition(BEGIN)
        page.write_text(head + part + rest.partition(END)[2], "utf-8")
    draw()


if __name__ == "__main__":
    main()
