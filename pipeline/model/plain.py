"""Models that run without large libraries, recognised by their files."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.model.files import read_json

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

#: Pooling modes that are known here.
POOLING = ("cls", "max", "mean")

#: Activations of BERT that are known here.
BERT_ACTIVATIONS = ("gelu", "relu")

#: Prefixes that training with a head leaves on the names of weights.
_PREFIXES = ("", "bert.", "model.")


def prompts(folder: Path) -> Mapping[str, str | None]:
    """Prefix of texts, by purpose: `query`, `document`. Raises ModelError where a file is damaged."""
    return read_json(folder / "config_sentence_transformers.json").get("prompts") or {}


def usual_pooling(folder: Path) -> str:
    """The pooling mode of a model that is a text encoder and pooling; empty where the model has anything unknown.

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
    return mode if isinstance(mode, str) and mode in POOLING else ""


def is_plain_bert(folder: Path) -> bool:
    """Whether the model of a folder is BERT, and nothing in the configuration of model and tokenizer is unknown here."""
    config, wanted = read_json(folder / "config.json"), read_json(folder / "tokenizer_config.json")
    normalizer = read_json(folder / "tokenizer.json").get("normalizer") or {}
    # Where both say something about the text, transformers follows the configuration.
    asked = {"lowercase": "do_lower_case", "strip_accents": "strip_accents", "handle_chinese_chars": "tokenize_chinese_chars"}
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") in BERT_ACTIVATIONS
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and not config.get("add_cross_attention")
        and normalizer.get("type") == "BertNormalizer"
        and all(wanted.get(name, normalizer.get(key)) == normalizer.get(key) for key, name in asked.items())
        and (folder / "model.safetensors").is_file()
    )


def weights_prefix(names: Container[str]) -> str:
    """The prefix of the names of BERT's weights in a file."""
    return next((one for one in _PREFIXES if f"{one}embeddings.word_embeddings.weight" in names), "")
