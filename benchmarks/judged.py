"""How well searches find what people judged relevant: CISI, CACM and Cranfield, beside bm25s.

    python -m benchmarks.judged SETS [--data FOLDER] [--part-tokens N]

SETS is a folder with the files of the three sets, which are not part of this repository (docs/retrieval.md says where they are).
If it has a folder chunking_evaluation, the five corpora in it are measured too (`benchmarks.excerpts`).
A document is a text file of title and body. Each set is loaded in embedded mode with the default model, and asked its own
questions in all modes. `--data` keeps what was loaded, and a later run loads nothing again.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import bm25s
import ir_measures
import Stemmer
from scipy.stats import ttest_rel

from benchmarks import excerpts
from benchmarks.command import load
from benchmarks.report import machine, save, table
from pipeline.embed import make_embedder
from pipeline.search import document_ranking
from pipeline.search.evaluate import NDCG_DEPTH
from pipeline.settings import load_settings
from pipeline.store import open_store
from pipeline.store.names import open_physical
from workers.cli.search import MODES

#: Question -> its measure.
Measured = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """A set of documents and questions, by their numbers."""

    documents: dict[str, str]
    questions: dict[str, str]  #: only those with relevant documents
    relevant: dict[str, dict[str, int]]  #: question -> document -> 1


def fields(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Number and fields of the records of a file in SMART's format."""
    found: list[tuple[str, dict[str, str]]] = []
    field = ""
    for line in path.read_text("latin-1").splitlines():
        if begins := re.match(r"\.I\s+0*(\d+)", line):
            found.append((begins[1], {}))
            field = ""
        elif named := re.fullmatch(r"\.([A-Z])\s*", line):
            field = named[1]
        elif found and field:
            found[-1][1][field] = found[-1][1].get(field, "") + line + "\n"
    return found


def judged(documents: Path, questions: Path, judgements: Path, columns: tuple[int, int], *, by_place: bool = False) -> Judged:
    """A set. `columns`: of question and document in a line of judgements; `by_place`: questions are numbered by their place."""
    relevant: dict[str, dict[str, int]] = {}
    for line in judgements.read_text("latin-1").splitlines():
        if parts := line.split():
            question, document = (str(int(parts[column])) for column in columns)
            relevant.setdefault(question, {})[document] = 1
    texts = {number: f"{one.get('T', '').strip()}\n\n{one.get('W', '').strip()}".strip() for number, one in fields(documents)}
    asked = {}
    for place, (number, one) in enumerate(fields(questions), 1):
        asked[str(place) if by_place else number] = " ".join(f"{one.get('T', '')} {one.get('W', '')}".split())
    return Judged(
        {number: text for number, text in texts.items() if text},
        {number: text for number, text in asked.items() if number in relevant},
        relevant,
    )


def sets(folder: Path) -> dict[str, Judged]:
    """The three sets. Raises FileNotFoundError."""
    return {
        "CISI": judged(folder / "CISI.ALL", folder / "CISI.QRY", folder / "CISI.REL", (0, 1)),
        "CACM": judged(folder / "cacm.all", folder / "query.text", folder / "cacm.qrels", (0, 2)),
        "Cranfield": judged(folder / "cran.all.1400", folder / "cran.qry", folder / "cranqrel", (0, 2), by_place=True),
    }


def measured(one: Judged, ranking: Callable[[str], list[str]]) -> Measured:
    """nDCG@10 of each question."""
    run = {
        number: {document: float(-rank) for rank, document in enumerate(ranking(text))} for number, text in one.questions.items()
    }
    found = ir_measures.iter_calc([ir_measures.nDCG @ NDCG_DEPTH], one.relevant, run)
    scores = {metric.query_id: metric.value for metric in found}
    return {number: scores.get(number, 0.0) for number in one.questions}


def plain(one: Judged, *, stems: bool) -> Measured:
    """The same of bm25s with English stop words, as its documentation has it."""
    numbers = list(one.documents)
    stemmer = Stemmer.Stemmer("english") if stems else None

    def tokens(texts: list[str]) -> object:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

    index = bm25s.BM25()
    index.index(tokens(list(one.documents.values())), show_progress=False)

    def ranking(text: str) -> list[str]:
        found, _ = index.retrieve(tokens([text]), k=100, show_progress=False)
        return [numbers[place] for place in found[0]]

    return measured(one, ranking)


def ours(one: Judged, data: Path, part_tokens: int) -> dict[str, Measured]:
    """Mode -> the same of searches; loads the documents into `data` unless they are there."""
    if not data.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            for number, text in one.documents.items():
                (Path(folder) / f"{number}.txt").write_text(text, "utf-8")
            load(data, folder, part_tokens=part_tokens)
    settings = load_settings(data_dir=data, device="cpu", part_tokens=part_tokens)
    store, embedder = open_store(settings), make_embedder(settings, device="cpu")
    try:
        physical = open_physical(store, settings.collection)
        found: dict[str, Measured] = {}
        for mode in MODES:
            ranking = document_ranking(store, physical, embedder, mode, NDCG_DEPTH)
            found[mode] = measured(one, lambda text, r=ranking: [Path(uri).stem for uri in r(text)])  # type: ignore[misc]
        return found
    finally:
        embedder.close()
        store.close()


def p_value(one: Measured, other: Measured) -> float:
    """Probability of such a difference by chance, by a paired t-test over the questions."""
    return float(ttest_rel([one[key] for key in one], [other[key] for key in one]).pvalue)


def main() -> None:
    """Load, ask, print the table, keep the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("sets", type=Path)
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--part-tokens", type=int, default=0, help="KB_PART_TOKENS of the loads")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = asked.data or Path(temporary)
        found: dict[str, dict[str, Measured]] = {}
        about: dict[str, object] = {}
        for name, one in sets(asked.sets).items():
            found[name] = {"bm25s": plain(one, stems=False), "bm25s with stems": plain(one, stems=True)}
            found[name] |= ours(one, data / name.lower(), asked.part_tokens)
            about[name] = {"documents": len(one.documents), "questions": len(one.questions)}
        corpora = asked.sets / "chunking_evaluation"
        chunks = excerpts.measured(corpora, data / corpora.name, asked.part_tokens) if corpora.is_dir() else {}
    tests = {name: {f"{a} - {b}": round(p_value(its[a], its[b]), 4) for a, b in COMPARED} for name, its in found.items()}
    scores = {name: {way: round(mean(its.values()), 4) for way, its in ways.items()} for name, ways in found.items()}
    print(machine())
    ways = list(next(iter(scores.values())))
    print(table(("nDCG@10", *scores), [(way, *(f"{scores[name][way]:.3f}" for name in scores)) for way in ways]))
    print(table(("p", *tests), [(f"{a} - {b}", *(f"{tests[name][f'{a} - {b}']:.3f}" for name in tests)) for a, b in COMPARED]))
    shown = [(mode, *(f"{its[name]:.3f}" for name in EXCERPTS), f"{its['characters']:.0f}") for mode, its in chunks.items()]
    print(table(("best five chunks", *EXCERPTS, "characters"), shown))
    save("judged" if not asked.part_tokens else "judged_parts", {"sets": about, "ndcg_10": scores, "p": tests, "excerpts": chunks})


#: Columns of the table of chunking_evaluation.
EXCERPTS = ("recall", "precision", "iou")

#: What the paired tests compare.
COMPARED = (("sparse", "bm25s with stems"), ("hybrid", "dense"), ("hybrid", "sparse"))


if __name__ == "__main__":
    main()
