"""Embeds single questions without torch, whose import takes longer than the rest of a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pipeline.embed.base import unit_rows
from pipeline.errors import ModelError
from pipeline.model.files import ModelFiles, check_weights, read_json
from pipeline.model.plain import is_plain_bert, prompts, usual_pooling, weights_prefix
from pipeline.model.tokens import BertTokens

Matrix = NDArray[np.float32]

#: Precisions of weights that numpy has; and of the numbers of positions, which some files hold and nobody needs.
DTYPES = ("F16", "F32", "I64")

#: Coefficients of formula 7.1.26 in Abramowitz and Stegun, Handbook of Mathematical Functions (1964), highest power first, and p.
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_P = 0.3275911


def runs_without_torch(files: ModelFiles) -> bool:
    """Whether `QuestionBert` runs this model: plain BERT with a usual pooling, and weights in a precision that numpy has."""
    if not usual_pooling(files.path) or not is_plain_bert(files.path):
        return False
    with _weights(files) as file:
        return all(file.get_slice(name).get_dtype() in DTYPES for name in file.keys())  # noqa: SIM118 - not a dictionary


class QuestionBert:
    """A QueryEmbedder: BERT in fp32 with numpy, one text at a time; `pipeline.embed.bert` explains the layers.

    Faster than torch for one question, because it need not be imported; much slower for many.
    """

    def __init__(self, files: ModelFiles) -> None:
        """Read a model for which `runs_without_torch` holds. Raises ModelError where its weights do not fit its configuration."""
        check_weights(files)
        self._limit = files.max_tokens
        self._prompt = str(prompts(files.path).get("query") or "")
        self._pool = _POOLS[usual_pooling(files.path)]
        self._tokens = BertTokens(files.path)
        self._config = read_json(files.path / "config.json")
        self._eps = float(self._config.get("layer_norm_eps", 1e-12))
        self._activate = _ACTIVATIONS[self._config.get("hidden_act", "gelu")]
        with _weights(files) as file:
            names = set(file.keys())
            prefix = weights_prefix(names)
            self._read = {name.removeprefix(prefix): file.get_tensor(name) for name in names if name.startswith(prefix)}
        self._name = files.name

    def embed_query(self, text: str) -> Matrix:
        """Embed a question: (dimension,) float32, unit length; one over the limit is cut, because users paste long ones."""
        (ids,) = self._tokens.ids([self._prompt + text], self._limit)
        try:
            hidden = self._norm(
                self._weight("embeddings.word_embeddings")[ids]
                + self._weight("embeddings.token_type_embeddings")[0]
                + self._weight("embeddings.position_embeddings")[: len(ids)],
                "embeddings.LayerNorm",
            )
            for number in range(self._config["num_hidden_layers"]):
                hidden = self._layer(hidden, f"encoder.layer.{number}.")
        except (KeyError, ValueError) as error:  # a missing weight, or one of another shape
            raise ModelError(f"the weights of {self._name} do not fit its configuration: {error}") from error
        vector: Matrix = unit_rows(self._pool(hidden)[None])[0]
        return vector

    def close(self) -> None:
        """Release the weights."""
        self._read.clear()

    def _layer(self, hidden: Matrix, name: str) -> Matrix:
        """(tokens, hidden) to the same."""
        heads = int(self._config["num_attention_heads"])
        query, key, value = (
            self._linear(hidden, f"{name}attention.self.{part}").reshape(len(hidden), heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(query.shape[-1]))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        attended = (weights @ value).transpose(1, 0, 2).reshape(hidden.shape)
        hidden = self._norm(hidden + self._linear(attended, name + "attention.output.dense"), name + "attention.output.LayerNorm")
        wide = self._activate(self._linear(hidden, name + "intermediate.dense"))
        return self._norm(hidden + self._linear(wide, name + "output.dense"), name + "output.LayerNorm")

    def _linear(self, values: Matrix, name: str) -> Matrix:
        found: Matrix = values @ self._weight(name).T + self._weight(name, "bias")
        return found

    def _norm(self, values: Matrix, name: str) -> Matrix:
        centred = values - values.mean(-1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(self._eps))
        found: Matrix = centred / scale * self._weight(name) + self._weight(name, "bias")
        return found

    def _weight(self, name: str, kind: str = "weight") -> Matrix:
        found: Matrix = self._read[f"{name}.{kind}"].astype(np.float32, copy=False)
        return found


def _weights(files: ModelFiles) -> Any:
    try:
        return safe_open(files.path / "model.safetensors", "numpy")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot load {files.name} from {files.path}: {error}") from error


def _gelu(values: Matrix) -> Matrix:
    """The exact one, x times the normal distribution's share below x, to 1e-7."""
    size = np.abs(values) * np.float32(np.sqrt(0.5))
    step = 1 / (1 + np.float32(_ERF_P) * size)
    tail = np.polyval(np.array([*_ERF, 0.0], np.float32), step) * np.exp(-size * size)  # 1 - erf(size)
    found: Matrix = values * np.where(values < 0, tail, 2 - tail) / 2
    return found


def _relu(values: Matrix) -> Matrix:
    return np.maximum(values, 0)


def _mean(hidden: Matrix) -> Matrix:
    found: Matrix = hidden.mean(0)
    return found


def _cls(hidden: Matrix) -> Matrix:
    found: Matrix = hidden[0]
    return found


def _max(hidden: Matrix) -> Matrix:
    found: Matrix = hidden.max(0)
    return found


_ACTIVATIONS: dict[str, Callable[[Matrix], Matrix]] = {"gelu": _gelu, "relu": _relu}

_POOLS: dict[str, Callable[[Matrix], Matrix]] = {"cls": _cls, "max": _max, "mean": _mean}
