"""A question to hits in each mode, from the library and from the command line."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.embed.base import EmbedderInfo, embed_fingerprint
from pipeline.errors import CollectionMismatch, CollectionMissing, ConfigError, ModelError
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.search import CHUNKS_A_DOCUMENT, Searcher, document_ranking, search_physical
from pipeline.settings import Settings, load_settings
from pipeline.store.edge import EdgeStore
from pipeline.store.names import physical_name
from tests.made_points import DIMENSION, made_document, made_points, made_vector
from tests.old_collections import make_old
from workers.cli import run
from workers.cli.search import MODES


class FixedEmbedder:
    """Takes every question for made_vector(3)."""

    def __init__(self, dimension: int = DIMENSION) -> None:
        self.calls = 0
        self.fills: deque[float] = deque()
        self.info = EmbedderInfo("fixed", "", dimension, 256, "cpu", "float32", 1.0)

    def embed(self, texts: Any) -> Any:
        raise NotImplementedError

    def embed_query(self, text: str) -> Any:
        self.calls += 1
        return np.array(made_vector(3, self.info.dimension), dtype=np.float32)

    def memory_bytes(self) -> int:
        return 0

    def close(self) -> None:
        pass


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return load_settings(model="no/such-model")


@pytest.fixture
def store(settings: Settings) -> Iterator[EdgeStore]:
    """A collection `documents` of a model that nobody can load, and one without weights of words."""
    opened = EdgeStore(settings.data_dir / "qdrant", role="owner")
    physical = physical_name("documents", embed_fingerprint(settings, DIMENSION))
    opened.create(physical, DIMENSION)
    for document, text in (("guide.txt", "Some words."), ("manual.txt", "The word zlib_level and others.")):
        opened.upsert(physical, made_points(made_document(document), 12, text=text, first=0 if document == "guide.txt" else 50))
    opened.set_alias("documents", physical)
    old = physical_name("old", embed_fingerprint(settings, DIMENSION))
    make_old(opened, settings.data_dir / "qdrant", old, DIMENSION)
    opened.set_alias("old", old)
    opened.close()
    yield opened
    opened.close()


def test_modes(settings: Settings, store: EdgeStore) -> None:
    embedder = FixedEmbedder()

    def found(mode: Any) -> list[str]:
        hits = Searcher(settings, store, embedder).search("documents", "zlib_level", 2, {}, mode).hits
        return [hit.uri.rpartition("/")[2] for hit in hits]

    assert found("sparse") == ["manual.txt"] * 2
    assert embedder.calls == 0
    assert found("dense")[0] == "guide.txt"
    assert found("hybrid")[0] == "manual.txt"  # all are in the list of meanings, and these in that of words too
    assert embedder.calls == 2


def test_a_search_without_an_embedder(settings: Settings, store: EdgeStore) -> None:
    searcher = Searcher(settings, store)
    assert len(searcher.search("documents", "words", 3, {}, "sparse").hits) == 3
    with pytest.raises(ValueError, match="needs an embedder"):
        search_physical(store, "documents", None, "words", 3, {}, "hybrid")
    with pytest.raises(ModelError, match="no/such-model"):
        searcher.search("documents", "words", 3, {}, "hybrid")
    with pytest.raises(CollectionMissing):
        searcher.search("absent", "words", 3, {}, "sparse")


def test_another_model_matters_to_meaning_only(settings: Settings, store: EdgeStore) -> None:
    searcher = Searcher(settings.model_copy(update={"model": "another/model"}), store)
    for mode in ("dense", "hybrid"):
        with pytest.raises(CollectionMismatch, match="another model than another/model"):
            searcher.search("documents", "words", 3, {}, mode)
    assert searcher.search("documents", "words", 3, {}, "sparse").hits


def test_an_old_collection_says_once_that_it_must_be_indexed_again(
    settings: Settings, store: EdgeStore, caplog: pytest.LogCaptureFixture
) -> None:
    searcher = Searcher(settings, store, FixedEmbedder())
    for _ in range(2):
        searcher.search("old", "words", 3, {}, "hybrid")
        searcher.search("documents", "words", 3, {}, "hybrid")
    assert [record.getMessage().count("`kb-ingest reindex`") for record in caplog.records] == [1]
    with pytest.raises(ConfigError, match="`kb-ingest reindex` makes new ones"):
        searcher.search("old", "words", 3, {}, "sparse")


def test_the_ledger_knows_which_model_made_a_generation(
    settings: Settings, store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.embed.make_query_embedder", lambda *_, **__: FixedEmbedder())
    ledger = Ledger.open(settings.prepare().ledger_url)
    fingerprint = embed_fingerprint(settings, DIMENSION)
    physical = physical_name("documents", fingerprint)
    profile = json.dumps({"model": settings.model})
    ledger.collections.add(Collection("documents", physical, settings.model, "", DIMENSION, fingerprint, "", 0.0, profile=profile))
    ledger.close()
    searcher = Searcher(settings.model_copy(update={"model": "another/model"}), store)
    assert len(searcher.search("documents", "words", 3, {}, "dense").hits) == 3
    searcher.close()


def test_a_ranking_has_each_document_once(store: EdgeStore) -> None:
    ranking = document_ranking(store, "documents", FixedEmbedder(), "dense", 2)
    assert [uri.rpartition("/")[2] for uri in ranking("any")] == ["guide.txt", "manual.txt"]
    asked = len(search_physical(store, "documents", FixedEmbedder(), "any", 2 * CHUNKS_A_DOCUMENT, {}, "dense"))
    assert asked == 2 * CHUNKS_A_DOCUMENT


@pytest.mark.usefixtures("store")
def test_the_command_needs_no_model_for_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_MODEL", "no/such-model")
    assert run(["search", "zlib_level", "--mode", "sparse", "--limit", "1", "--json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    assert hit["uri"].endswith("manual.txt")
    assert run(["search", "zlib_level"]) == 1
    assert "no/such-model" in capsys.readouterr().err
    monkeypatch.setenv("KB_SEARCH_MODE", "sparse")
    assert run(["search", "zlib_level"]) == 0
    assert "manual.txt" in capsys.readouterr().out
    assert run(["search", "zlib_level", "-c", "old"]) == 1
    assert "--mode dense" in capsys.readouterr().err
    monkeypatch.setenv("KB_SEARCH_MODE", "both")
    assert run(["search", "zlib_level"]) == 1
    assert "KB_SEARCH_MODE" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_eval_of_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KB_MODEL", "no/such-model")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"query": "zlib_level", "relevant": ["manual.txt"]}\n{"query": "some", "relevant": ["manual.txt"]}\n')
    assert run(["eval", str(questions), "--mode", "sparse", "-k", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "collection": "documents", "queries": 2, "k": 3,
        "modes": {"sparse": {"queries": 2, "k": 3, "recall": 0.5, "mrr": 0.5, "ndcg_10": 0.5}},
    }  # fmt: skip
    assert run(["eval", str(questions), "--mode", "sparse"]) == 0
    assert "recall@10" in capsys.readouterr().out
    questions.write_text("{}\n")
    assert run(["eval", str(questions)]) == 1
    assert "line 1" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_eval_of_all_modes_or_of_those_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipeline.embed.make_query_embedder", lambda *_, **__: FixedEmbedder())
    monkeypatch.setenv("KB_MODEL", "no/such-model")
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"query": "zlib_level", "relevant": ["manual.txt"]}\n')
    assert run(["eval", str(questions), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["modes"]) == list(MODES)
    assert run(["eval", str(questions), "--json", "-c", "old"]) == 0
    assert list(json.loads(capsys.readouterr().out)["modes"]) == ["dense"]
