"""The HTTP embedder against a real server that speaks both protocols and can fail in every way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.embed import make_embedder
from pipeline.embed.base import bad_rows
from pipeline.embed.http import HttpEmbedder
from pipeline.errors import EmbedUnavailable, ModelError
from pipeline.settings import Settings
from tests.embed_server import DIMENSION, MODEL, Endpoint, vector


@pytest.fixture(params=["openai", "ollama"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    server = Endpoint(ollama=request.param == "ollama")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def settings(tmp_path: Path, endpoint: Endpoint, **values: Any) -> Settings:
    return Settings(data_dir=tmp_path, **{"embed_url": endpoint.url, "embed_model": MODEL, **values})


def test_vectors_come_back_in_order_and_with_unit_length(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = make_embedder(settings(tmp_path, endpoint, embed_api_key="secret"), device="cpu")
    texts = [f"text {number} " + "x" * (number * 7 % 50) for number in range(150)]
    got = embedder.embed(texts)
    expected = np.array([vector(text) for text in texts])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert got.shape == (150, DIMENSION)
    assert np.allclose(got, expected, atol=1e-5)
    assert np.allclose(embedder.embed_query(texts[3]), expected[3], atol=1e-5)
    assert bad_rows(got) == []
    assert embedder.info.dimension == DIMENSION
    assert embedder.info.dtype == ("ollama" if endpoint.ollama else "openai")
    assert endpoint.keys == {"Bearer secret"}
    if endpoint.ollama:
        assert all(body["truncate"] is False for body in endpoint.requests)
    embedder.close()


def test_the_url_may_end_in_v1(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = make_embedder(settings(tmp_path, endpoint, embed_url=endpoint.url + "/v1/"), device="cpu")
    assert embedder.embed([]).shape == (0, DIMENSION)
    embedder.close()


def test_passing_trouble_is_waited_out(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = HttpEmbedder.connect(settings(tmp_path, endpoint))
    endpoint.failures = [503, 429]
    assert embedder.embed(["a"]).shape == (1, DIMENSION)
    embedder.close()


def test_lasting_trouble_is_told(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = HttpEmbedder.connect(settings(tmp_path, endpoint, lease_s=1.5))
    endpoint.failures = [503] * 50
    with pytest.raises(EmbedUnavailable, match="503"):
        embedder.embed(["a"])
    embedder.close()


def test_nobody_at_home(tmp_path: Path) -> None:
    with pytest.raises(EmbedUnavailable, match="does not answer"):
        HttpEmbedder.connect(Settings(data_dir=tmp_path, embed_url="http://127.0.0.1:9", lease_s=0.9))


def test_a_model_that_is_not_served_is_permanent(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"404.*not found"):
        HttpEmbedder.connect(settings(tmp_path, endpoint, embed_model="other"))


def test_requests_that_are_too_large_are_halved(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = HttpEmbedder.connect(settings(tmp_path, endpoint))
    endpoint.most_texts = 5
    endpoint.requests.clear()
    assert embedder.embed([str(number) for number in range(64)]).shape == (64, DIMENSION)
    assert max(len(body["input"]) for body in endpoint.requests) <= 5
    embedder.close()


def test_a_null_is_a_bad_vector(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = HttpEmbedder.connect(settings(tmp_path, endpoint))
    endpoint.null_for = "b"
    assert bad_rows(embedder.embed(["a", "b", "c"])) == [1]
    embedder.close()


def test_the_wrong_protocol_is_named(endpoint: Endpoint, tmp_path: Path) -> None:
    wrong = "openai" if endpoint.ollama else "ollama"
    with pytest.raises(ModelError):
        HttpEmbedder.connect(settings(tmp_path, endpoint, embed_api=wrong))
