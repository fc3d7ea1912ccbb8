"""The model behind a local embedder: texts to token ids to vectors. The usual models are loaded without large libraries.

Importing sentence-transformers also imports scikit-learn and SciPy, which no embedding needs, and importing transformers
takes seconds. Models that consist of a text encoder, pooling and normalization are run with equal results without the first
of them and, where the encoder is BERT, without the second. All others use sentence-transformers.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from typing_extensions import override

from pipeline.embed.bert import Bert, BertTokens, is_plain_bert
from pipeline.errors import ModelError
from pipeline.model.files import ModelFiles, read_json

#: Model types that are plain text encoders: AutoModel names their class, and sentence-transformers has no special case for them.
_ENCODERS = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "modernbert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    }
)

#: Module lists that need nothing from sentence-transformers. Normalization is left out: every embedder scales to unit length.
_MODULES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])

#: Values of sentence_bert_config.json that match how this module calls the transformer; the embedder checks `max_seq_length`.
_CALL = {
    "do_lower_case": False,
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}

#: Keys of config_sentence_transformers.json that change no vector, except `prompts`, which are used.
_ABOUT = frozenset({"__version__", "prompts", "default_prompt_name", "similarity_fn_name", "model_type"})

#: A key in pooling configurations written before version 6, with the mode that it chooses.
_POOLING_KEY = re.compile("pooling_mode_(.+?)(?:_tokens?)?")


class Encoder(Protocol):
    """A loaded model. Its transformer computes in any precision; the modules after it compute in fp32."""

    prompts: Mapping[str, str | None]  #: prefix of texts, by purpose: `query`, `document`
    packs: bool  #: whether `packed` works

    def tokenize(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """Token ids of each text, special tokens included; cut to `limit` tokens. Not from several threads at once."""

    def batch(self, encoded: Sequence[Sequence[int]], length: int) -> dict[str, torch.Tensor]:
        """Token ids padded to `length`: `input_ids` and `attention_mask`, both (texts, length)."""

    def to(self, device: str) -> None:
        """Move the weights to a device."""

    def cast(self, dtype: torch.dtype) -> None:
        """Change the transformer's precision."""

    def __call__(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Vectors (rows, dimension) in fp32 for `input_ids` and `attention_mask`, both (rows, tokens)."""

    def packed(self, encoded: Sequence[Sequence[int]]) -> torch.Tensor:
        """The same on the CPU for token ids, without padding; fastest where texts of the same length follow each other."""
        raise NotImplementedError


class _Pooled(Encoder):
    """A text encoder with pooling."""

    packs = False

    def __init__(self, model: torch.nn.Module, pooling: str, prompts: Mapping[str, str | None]) -> None:
        self.prompts = prompts
        self._model = model.eval()
        self._pool = _POOLING[pooling]

    @override
    def to(self, device: str) -> None:
        self._model.to(device)

    @override
    def cast(self, dtype: torch.dtype) -> None:
        self._model.to(dtype)


class BertEncoder(_Pooled):
    """BERT with pooling."""

    packs = True

    def __init__(self, folder: Path, pooling: str) -> None:
        """Load a model for which `is_plain_bert` holds. Raises ValueError where its weights do not fit its configuration."""
        self._bert = Bert.load(folder)
        super().__init__(self._bert, pooling, _prompts(folder))
        self._tokens = BertTokens(folder)

    @override
    def tokenize(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        return self._tokens.ids(texts, limit)

    @override
    def batch(self, encoded: Sequence[Sequence[int]], length: int) -> dict[str, torch.Tensor]:
        return self._tokens.batch(encoded, length)

    @override
    def __call__(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        tokens = self._bert(batch["input_ids"], batch["attention_mask"]).float()
        return self._pool(tokens, batch["attention_mask"])

    @override
    def packed(self, encoded: Sequence[Sequence[int]]) -> torch.Tensor:
        runs = [tokens.float() for tokens in self._bert.packed(encoded)]
        return torch.cat([self._pool(tokens, torch.ones(tokens.shape[:2])) for tokens in runs])


class _LibraryTokens:
    """Token ids by a tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def tokenize(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """See Encoder.tokenize."""
        found: list[list[int]] = self._tokenizer(
            list(texts),
            padding=False,
            truncation=limit is not None,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return found

    def batch(self, encoded: Sequence[Sequence[int]], length: int) -> dict[str, torch.Tensor]:
        """See Encoder.batch."""
        ids = {"input_ids": [list(one) for one in encoded]}
        return dict(
            self._tokenizer.pad(
                ids, padding="max_length", max_length=length, return_tensors="pt", return_attention_mask=True, verbose=False
            )
        )


class TransformerEncoder(_LibraryTokens, _Pooled):
    """A text encoder of transformers with pooling."""

    def __init__(self, model: Any, tokenizer: Any, pooling: str, prompts: Mapping[str, str | None]) -> None:
        _LibraryTokens.__init__(self, tokenizer)
        _Pooled.__init__(self, model, pooling, prompts)

    @classmethod
    def load(cls, folder: Path, pooling: str) -> TransformerEncoder:
        """Load a model whose pooling is known; passes on the errors of transformers."""
        with _without_scipy():
            import transformers.modeling_utils
        from transformers import AutoModel, AutoTokenizer

        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return cls(model, tokenizer, pooling, _prompts(folder))

    @override
    def __call__(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        tokens = self._model(**batch).last_hidden_state.float()
        return self._pool(tokens, batch["attention_mask"])


class SentenceTransformerEncoder(_LibraryTokens, Encoder):
    """A model as sentence-transformers loads it, with all its modules."""

    packs = False

    def __init__(self, model: Any) -> None:
        super().__init__(model.tokenizer)
        self.prompts = model.prompts
        self._model = model.eval()
        self._transformer = model[0]
        self._rest = [model[number].float() for number in range(1, len(model))]

    @classmethod
    def load(cls, folder: Path) -> SentenceTransformerEncoder:
        """Load any model; passes on the errors of sentence-transformers."""
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        weights = {"use_safetensors": True, "dtype": torch.float32}
        return cls(
            SentenceTransformer(str(folder), device="cpu", trust_remote_code=False, local_files_only=True, model_kwargs=weights)
        )

    @override
    def to(self, device: str) -> None:
        self._model.to(device)

    @override
    def cast(self, dtype: torch.dtype) -> None:
        self._transformer.to(dtype)

    @override
    def __call__(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        features: dict[str, Any] = self._transformer(dict(batch))
        for name, value in features.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                features[name] = value.float()
        for module in self._rest:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"]
        return vectors.float()


def load_encoder(files: ModelFiles) -> Encoder:
    """Load a model on the CPU in fp32, from safetensors and without running code of the model.

    Raises ModelError.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    pooling = usual_pooling(files.path)
    try:
        if pooling and is_plain_bert(files.path):
            return BertEncoder(files.path, pooling)
        return TransformerEncoder.load(files.path, pooling) if pooling else SentenceTransformerEncoder.load(files.path)
    except Exception as error:  # the loaders raise many kinds of errors
        raise ModelError(f"cannot load {files.name} from {files.path}: {error}") from error


def _prompts(folder: Path) -> Mapping[str, str | None]:
    return read_json(folder / "config_sentence_transformers.json").get("prompts") or {}


def usual_pooling(folder: Path) -> str:
    """The pooling mode of a model that TransformerEncoder can run; empty where the model has anything unknown.

    Raises ModelError where a file is damaged.
    """
    modules = _modules(folder)
    if [module.get("type", "").removeprefix("sentence_transformers.").rpartition(".")[2] for module in modules] not in _MODULES:
        return ""
    config = read_json(folder / "config.json")
    call = read_json(folder / "sentence_bert_config.json")
    about = read_json(folder / "config_sentence_transformers.json")
    plain = (
        all(module.keys() <= {"idx", "name", "path", "type"} for module in modules)
        and modules[0].get("path") == ""
        and config.get("model_type") in _ENCODERS
        and "auto_map" not in config
        and not (folder / "adapter_config.json").exists()
        and bool(call)  # otherwise a file with another name may hold the options
        and all(key in _CALL and value == _CALL[key] for key, value in call.items() if key != "max_seq_length")
        and about.keys() <= _ABOUT
        and about.get("model_type", "SentenceTransformer") == "SentenceTransformer"
    )
    return _mode(read_json(folder / modules[1]["path"] / "config.json")) if plain else ""


def _modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    return found if isinstance(found, list) and all(isinstance(module, dict) for module in found) else []


def _mode(config: Mapping[str, Any]) -> str:
    """The mode of a pooling configuration, of version 6 or earlier; empty for an unknown mode or several modes."""
    found = [_POOLING_KEY.fullmatch(key) for key, chosen in config.items() if chosen is True]
    mode = config.get("pooling_mode") or [match[1] for match in found if match] or "mean"
    (mode,) = mode if isinstance(mode, list) and len(mode) == 1 else (mode,)
    return mode if isinstance(mode, str) and mode in _POOLING else ""


def _cls(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The first token that is not padding."""
    return tokens[torch.arange(len(tokens), device=tokens.device), mask.int().argmax(1)]


def _max(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return tokens.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)


def _mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


_POOLING: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"cls": _cls, "max": _max, "mean": _mean}


@contextmanager
def _without_scipy() -> Iterator[None]:
    """Make transformers believe that SciPy is not installed while its modules are imported.

    The base of every model class imports scipy.optimize, where it is installed, for the losses of object detection. It is
    installed, because sentence-transformers needs it. The import costs a third of a second and 30 MB.
    """
    utils: Any = importlib.import_module("transformers.utils")  # its attributes are created on demand, invisible to type checkers
    available = utils.is_scipy_available
    utils.is_scipy_available = lambda: False
    try:
        yield
    finally:
        utils.is_scipy_available = available
