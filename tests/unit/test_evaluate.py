"""Measures of retrieval on examples computed by hand, and the files of questions."""

from __future__ import annotations

import json
from math import log2
from pathlib import Path

import pytest

from pipeline.chunk.file import ChunkFileHeader, write_chunks
from pipeline.errors import ConfigError
from pipeline.ledger import Ledger
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.search.evaluate import (
    SENTENCE_WORDS,
    JudgedQuery,
    evaluate,
    gains_of,
    matches,
    ndcg,
    read_queries,
    recall,
    reciprocal_rank,
    self_queries,
)
from pipeline.staging.copies import chunks_key
from pipeline.staging.local import LocalStaging
from pipeline.types import Chunk, SourceFile, Stage, StagedFile, chunk_id, document_id

GOLDEN = Path(__file__).resolve().parents[2] / "benchmarks" / "golden" / "python_docs.jsonl"


@pytest.mark.parametrize(
    ("uri", "entry", "expected"),
    [
        ("file:///d/library/os.html", "file:///d/library/os.html", True),
        ("file:///d/library/os.html", "library/os.html", True),
        ("file:///d/library/os.html", "/library/os.html", True),
        ("file:///d/library/os.html", "os.html", True),
        ("file:///d/library/os.html", "s.html", False),
        ("file:///d/library/os.html", "os", False),
        ("file:///d/library/os.html", "library", False),
    ],
)
def test_endings_begin_at_a_slash(uri: str, entry: str, expected: bool) -> None:
    assert matches(uri, entry) is expected


def test_gains_count_each_entry_once() -> None:
    ranked = ["a/x.html", "b/x.html", "c/y.html", "d/z.html"]
    assert gains_of(ranked, ["x.html", "z.html", "absent.html"]) == [True, False, False, True]
    assert gains_of([], ["x.html"]) == []


def test_measures_by_hand() -> None:
    gains = [False, True, False, True, False]  # at ranks 2 and 4, of 3 that are relevant
    assert recall(gains, 3, 5) == pytest.approx(2 / 3)
    assert recall(gains, 3, 2) == pytest.approx(1 / 3)
    assert reciprocal_rank(gains, 5) == 1 / 2
    assert reciprocal_rank(gains, 1) == 0
    # (1 / log2 3 + 1 / log2 5) / (1 / log2 2 + 1 / log2 3 + 1 / log2 4)
    assert ndcg(gains, 3, 10) == pytest.approx((1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / 2))
    assert ndcg(gains, 3, 10) == pytest.approx(0.4982, abs=1e-4)
    assert ndcg([True, True], 2, 10) == 1
    assert ndcg([True], 20, 10) == pytest.approx(1 / sum(1 / log2(rank + 1) for rank in range(1, 11)))
    assert ndcg([False] * 10 + [True], 1, 10) == 0


def test_means_over_questions() -> None:
    answers = {"one": ["a", "b"], "two": ["x", "y", "b"], "three": []}
    queries = [JudgedQuery("one", ("a",)), JudgedQuery("two", ("b", "c")), JudgedQuery("three", ("a",))]
    scores = evaluate(queries, answers.__getitem__, k=3)
    assert (scores.queries, scores.k) == (3, 3)
    assert scores.recall == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert scores.mrr == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert scores.ndcg_10 == pytest.approx((1 + (1 / log2(4)) / (1 + 1 / log2(3)) + 0) / 3)
    assert evaluate(queries, answers.__getitem__, k=2).recall == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no questions"):
        evaluate([], answers.__getitem__)


def test_files_of_questions(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(
        '\ufeff{"query": "one?", "relevant": ["a", "b", "a"], "note": 1}\n\n{"query": "two?", "uris": ["c"]}\n', encoding="utf-8"
    )
    assert read_queries(path) == [JudgedQuery("one?", ("a", "b")), JudgedQuery("two?", ("c",))]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "line 2 is not valid JSON"),
        ("[]", 'line 2: "query" must'),
        ('{"query": " ", "relevant": ["a"]}', 'line 2: "query" must'),
        ('{"query": 3, "relevant": ["a"]}', 'line 2: "query" must'),
        ('{"query": "x"}', 'line 2: "relevant" must'),
        ('{"query": "x", "relevant": []}', 'line 2: "relevant" must'),
        ('{"query": "x", "relevant": "a"}', 'line 2: "relevant" must'),
        ('{"query": "x", "relevant": ["a", "/"]}', 'line 2: "relevant" must'),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"query": "good", "relevant": ["a"]}\n' + line + "\n")
    with pytest.raises(ConfigError, match=words):
        read_queries(path)


def test_files_that_hold_no_questions(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n")
    with pytest.raises(ConfigError, match="contains no questions"):
        read_queries(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        read_queries(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_queries(tmp_path / "absent.jsonl")


def test_the_golden_questions() -> None:
    queries = read_queries(GOLDEN)
    assert len(queries) >= 60
    assert len({query.text for query in queries}) == len(queries)
    kinds = [json.loads(line)["kind"] for line in GOLDEN.read_text("utf-8").splitlines()]
    assert min(kinds.count("words"), kinds.count("identifier")) >= 20
    pages = Path("/usr/share/doc/python3.11/html")
    if pages.is_dir():
        assert [entry for query in queries for entry in query.relevant if not (pages / entry).is_file()] == []


def test_a_collection_asks_itself(tmp_path: Path) -> None:
    ledger, staging = Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}"), LocalStaging(tmp_path / "staging")
    staged = {}
    for number in range(30):
        uri = f"file:///doc/{number}.txt"
        staged[document_id("c", uri)] = StagedFile(SourceFile(uri, None, 10, 1), f"{number:064x}", "")
    ledger.intake.record_staged("c", 1, staged)
    claim = ledger.work.claim(Stage.PARSE, list(staged), "w")
    ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "p") for key in staged])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, list(staged), "w")
    ledger.work.indexed(claim, [IndexedResult(document.id, document.content_hash, "p", "e", 2, 2) for document in claim.documents])
    for document in claim.documents[3:]:  # of three the chunks were cleared away
        texts = ["Short one. " + "Word after word of " + document.uri + " goes by, " * 12 + "and ends here. Yes.", "no"]
        path = staging.scratch()
        chunks = [Chunk(chunk_id(document.id, text, 0), document.id, n, text, 5) for n, text in enumerate(texts)]
        write_chunks(path, ChunkFileHeader("text/plain", ""), chunks)
        staging.put_chunks(chunks_key("p", document.content_hash, document.uri), path)
    asked = self_queries(ledger, staging, "c", 20)
    assert asked == self_queries(ledger, staging, "c", 20)
    assert asked != self_queries(ledger, staging, "c", 20, seed=1)
    assert 5 <= len(asked) <= 20
    for query in asked:
        assert query.relevant[0] in query.text
        assert query.text.startswith("Word after word")
        assert len(query.text.split()) == SENTENCE_WORDS
    assert self_queries(ledger, staging, "other", 20) == []
    ledger.close()
