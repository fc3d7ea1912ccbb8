"""How much of what answers a question is in its best five chunks: the five corpora of chunking_evaluation.

A question comes with the excerpts of a corpus that answer it, by their place. A corpus is loaded as one Markdown file.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.command import load
from pipeline.embed import make_embedder
from pipeline.search import Searcher
from pipeline.settings import load_settings
from pipeline.store import open_store
from workers.cli.search import MODES

#: Chunks that count.
BEST = 5

#: First and last place in a corpus, the last one excluded.
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and where in which corpus its answer is."""

    text: str
    corpus: str
    excerpts: Sequence[Span]


def questions(folder: Path) -> list[Question]:
    """The questions of `questions_df.csv`. Raises FileNotFoundError."""
    with (folder / "questions_df.csv").open(encoding="utf-8", newline="") as file:
        return [
            Question(
                row["question"],
                row["corpus_id"],
                [(one["start_index"], one["end_index"]) for one in json.loads(row["references"])],
            )
            for row in csv.DictReader(file)
        ]


class Places:
    """Finds the texts of chunks in a corpus. Letters and digits are compared: chunks have no markup."""

    def __init__(self, corpus: str) -> None:
        self._at = [at for at, letter in enumerate(corpus) if letter.isalnum()]
        self._text = "".join(corpus[at] for at in self._at)

    def of(self, text: str) -> list[Span]:
        """Where the text of a chunk is; if headings of sections stand in it, where its longest paragraph is.

        Corpora repeat themselves, and a search returns each text once: it then stands for all its places.
        """
        for part in (text, max(text.split("\n\n"), key=len)):
            wanted = "".join(filter(str.isalnum, part))
            if found := [one.start() for one in re.finditer(f"(?={re.escape(wanted)})", self._text)] if wanted else []:
                return [(self._at[start], self._at[start + len(wanted) - 1] + 1) for start in found]
        return []


def scores(question: Question, texts: Sequence[str], places: Places) -> dict[str, float]:
    """Recall, precision and intersection over union, by characters, of texts that were found for a question; and their length.

    `places`: of the question's corpus. A text of another corpus is read in vain.
    """
    wanted = {at for span in question.excerpts for at in range(*span)}
    found = {at for text in texts for span in places.of(text) for at in range(*span)}
    read, hit = sum(map(len, texts)), len(wanted & found)
    return {"recall": hit / len(wanted), "precision": hit / read, "iou": hit / (read + len(wanted) - hit), "characters": read}


def measured(folder: Path, data: Path, part_tokens: int = 0) -> dict[str, dict[str, float]]:
    """Mode -> the means over all questions. Loads the corpora into `data` unless they are there."""
    corpora = {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}
    if not data.is_dir():
        with tempfile.TemporaryDirectory() as place:
            for name, text in corpora.items():
                (Path(place) / f"{name}.md").write_text(text, "utf-8")
            load(data, place, part_tokens=part_tokens)
    places = {name: Places(text) for name, text in corpora.items()}
    settings = load_settings(data_dir=data, device="cpu", part_tokens=part_tokens)
    store, embedder = open_store(settings), make_embedder(settings, device="cpu")
    try:
        searcher = Searcher(settings, store, embedder)
        found: dict[str, dict[str, float]] = {}
        for mode in MODES:
            rows = []
            for question in questions(folder):
                hits = searcher.search(settings.collection, question.text, BEST, {}, mode).hits
                rows.append(scores(question, [hit.text for hit in hits], places[question.corpus]))
            found[mode] = {name: mean(row[name] for row in rows) for name in rows[0]}
        return found
    finally:
        embedder.close()
        store.close()
