"""Reranking, at an endpoint and by a model of this process; and what a search returns when it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ModelError, RerankUnavailable
from pipeline.search import Searcher, rerank
from pipeline.search.rerank import BATCH_TEXTS, LocalReranker, Reranking
from pipeline.settings import Settings
from pipeline.store.edge import EdgeStore
from pipeline.types import Hit, Refinement
from tests.made_points import DIMENSION, made_document, made_points
from tests.rerank_server import RerankEndpoint

#: The best of these by the endpoint's scores is the last.
TEXTS = ("nothing of it", "one word: tide", "the tide and the table", "tide table")


@pytest.fixture
def endpoint() -> Iterator[RerankEndpoint]:
    server = RerankEndpoint()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def hit(text: str, headings: tuple[str, ...] = ()) -> Hit:
    return Hit(0.01, f"file:///{text}", "", text, headings, None, None, None, None, text, text)


@pytest.mark.parametrize(
    ("api", "ending", "path"), [("tei", "", "/rerank"), ("cohere", "", "/v2/rerank"), ("cohere", "/v1/rerank", "/v1/rerank")]
)
def test_an_endpoint_orders_hits(endpoint: RerankEndpoint, tmp_path: Path, api: str, ending: str, path: str) -> None:
    settings = Settings(
        data_dir=tmp_path, rerank_url=endpoint.url + ending, rerank_api=api, rerank_model="reader", rerank_api_key="secret"
    )  # fmt: skip
    reranking = Reranking(settings)
    assert reranking.configured
    found, note = reranking.order("tide table", [hit(text) for text in TEXTS])
    assert note == ""
    assert [one.score for one in found] == [1.0, 1.0, 0.5, 0.0]
    assert [one.text for one in found] == [TEXTS[2], TEXTS[3], TEXTS[1], TEXTS[0]]  # equals keep their order
    ((asked, body, key),) = endpoint.requests
    assert (asked, key, body["query"]) == (path, "Bearer secret", "tide table")
    assert (body.get("model"), body.get("top_n"), body.get("truncate")) == (
        (None, None, True) if api == "tei" else ("reader", 4, None)
    )
    endpoint.requests.clear()
    found, _ = reranking.order("tide", [hit("water", ("Tide", "Tables"))] + [hit("water")] * 2 * BATCH_TEXTS)
    assert found[0].heading_path == ("Tide", "Tables")  # headings are read too
    assert len(endpoint.requests) == 3
    reranking.close()


def test_without_an_answer_hits_stay_as_they_are(endpoint: RerankEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, rerank_url=endpoint.url, rerank_timeout_s=0.3)
    hits = [hit(text) for text in TEXTS]
    endpoint.delay_s = 2.0
    reranking, began = Reranking(settings), time.monotonic()
    found, note = reranking.order("tide table", hits)
    assert found == hits
    assert note.startswith(f"not reranked: the reranker {endpoint.url}/rerank does not answer")
    for _ in range(20):  # does not wait again
        assert reranking.order("tide table", hits) == (hits, note)
    assert time.monotonic() - began < 20 * settings.rerank_timeout_s
    assert len(endpoint.requests) == 1
    endpoint.delay_s = 0.0
    monkeypatch.setattr(rerank, "PAUSE_S", 0.0)
    reranking = Reranking(settings)
    endpoint.status = 503
    assert "503" in reranking.order("tide table", hits)[1]
    endpoint.status = 200
    assert reranking.order("tide table", hits)[1] == ""  # asked again
    content: object
    for content in ({"results": []}, [{"index": 0, "score": 1.0}], [{"index": 0}], ["none"]):
        endpoint.content = content
        found, note = reranking.order("tide table", hits)
        assert (found, "check KB_RERANK_API" in note) == (hits, True), content


def test_a_search_with_a_reranker(endpoint: RerankEndpoint, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, rerank_url=endpoint.url)
    store = EdgeStore(tmp_path / "qdrant", role="owner")
    store.create("documents", DIMENSION)
    store.set_alias("all", "documents")
    for number, text in enumerate(("tide tide tide tide", "table tide", "tide")):
        store.upsert("documents", made_points(made_document(f"{number}.txt"), 3, text=text))
    plain = Searcher(settings, store).search("all", "tide table", 2, {}, "sparse", Refinement(rerank=False))
    assert not plain.reranked
    assert endpoint.requests == []
    found = Searcher(settings, store).search("all", "tide table", 9, {}, "sparse", Refinement(min_score=0.6))
    assert found.reranked
    assert [one.score for one in found.hits] == [1.0] * 3
    assert {one.uri.rpartition("/")[2] for one in found.hits} == {"1.txt"}
    endpoint.status = 500
    found = Searcher(settings, store).search("all", "tide table", 2, {}, "sparse")
    assert (found.reranked, [one.score for one in found.hits]) == (False, [one.score for one in plain.hits])
    assert "500" in found.note
    store.close()


def cross_encoder(folder: Path, labels: int = 1) -> Path:
    """A cross-encoder with weights that nobody has trained, the same in every run."""
    import torch
    from transformers import AutoConfig, BertForSequenceClassification, BertTokenizer

    torch.manual_seed(3)  # some weights would score nearly all texts alike
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({word for text in TEXTS for word in text.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = AutoConfig.for_model(
        "bert", vocab_size=len(words), initializer_range=1.0, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64, num_labels=labels,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)  # type: ignore[arg-type]
    return folder


def test_a_cross_encoder_of_a_folder(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    folder = cross_encoder(tmp_path / "model")
    settings = Settings(data_dir=tmp_path, rerank_model=str(folder), device="cpu")
    several = [f"{text} {'tide ' * number}" for number in range(20) for text in TEXTS]
    reranker = LocalReranker(settings)
    scores = reranker.scores("tide", several, time.monotonic() + 600)
    expected = CrossEncoder(str(folder), device="cpu").predict([("tide", text) for text in several]).tolist()
    assert scores == pytest.approx(expected, abs=1e-5)
    assert len({round(one, 6) for one in scores}) > 20
    with pytest.raises(RerankUnavailable, match="KB_RERANK_TIMEOUT_S"):
        reranker.scores("tide", several, time.monotonic())
    found, note = Reranking(settings).order("tide", [hit(text) for text in several])
    assert note == ""
    assert [one.score for one in found] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)


def test_a_folder_without_a_usable_cross_encoder(tmp_path: Path) -> None:
    three = cross_encoder(tmp_path / "three", 3)
    for folder, complaint in ((tmp_path / "absent", "no cross-encoder in"), (three, "gives 3 numbers")):
        settings = Settings(data_dir=tmp_path, rerank_model=str(folder), device="cpu")
        with pytest.raises(ModelError, match=complaint):
            LocalReranker(settings)
        reranking, hits = Reranking(settings), [hit("tide")]
        reranking.warm()
        found, note = reranking.order("tide", hits)
        assert (found, complaint in note) == (hits, True)
