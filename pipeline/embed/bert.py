"""BERT as an encoder of text, without the library of all models.

Most embedding models are BERT with other weights. Importing transformers for one of them takes longer than reading its
weights, and a load of a few documents waits for nothing else. The layers and their order are those of Devlin et al. 2019
(arXiv:1810.04805), the names of weights those of transformers, whose vectors a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional

from pipeline.embed.prepacked import Product, product
from pipeline.model.files import read_json
from pipeline.model.plain import weights_prefix

#: Activations by their name in `config.json`.
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gelu": functional.gelu, "relu": functional.relu}

#: From the name and the shape of a weight to the weight.
Reader = Callable[[str, tuple[int, ...]], torch.Tensor]


class Bert(nn.Module):
    """The encoder; its weights are mapped from the file, not copied."""

    def __init__(self, config: Mapping[str, Any], read: Reader) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self._eps = config.get("layer_norm_eps", 1e-12)
        self.word = _parameter(read("embeddings.word_embeddings.weight", (config["vocab_size"], hidden)))
        self.position = _parameter(read("embeddings.position_embeddings.weight", (config["max_position_embeddings"], hidden)))
        self.kind = _parameter(read("embeddings.token_type_embeddings.weight", (config.get("type_vocab_size", 2), hidden)))
        self.norm = _Affine(read, "embeddings.LayerNorm", (hidden,))
        self.layers = nn.ModuleList(
            _Layer(config, read, f"encoder.layer.{number}.") for number in range(config["num_hidden_layers"])
        )

    @classmethod
    def load(cls, folder: Path) -> Bert:
        """Read the model of a folder in fp32. Raises ValueError for a weight that is missing or has another shape."""
        with safe_open(folder / "model.safetensors", "pt") as file:
            kept = set(file.keys())
            prefix = weights_prefix(kept)

            def read(name: str, shape: tuple[int, ...]) -> torch.Tensor:
                if prefix + name not in kept:
                    raise ValueError(f"the weight {prefix + name} is missing")
                found: torch.Tensor = file.get_tensor(prefix + name)
                if found.shape != shape:
                    raise ValueError(f"the weight {prefix + name} has the shape {tuple(found.shape)} instead of {shape}")
                return found.to(torch.float32)

            return cls(read_json(folder / "config.json"), read)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The last hidden states, (texts, tokens, hidden)."""
        hidden = functional.embedding(input_ids, self.word) + self.kind[0] + self.position[: input_ids.shape[1]]
        hidden = self.norm.normalized(hidden, self._eps)
        # Without padding no mask is needed, and the kernels without one are faster. On a GPU, looking would stop its stream.
        plain = attention_mask.device.type == "cpu" and bool(attention_mask.all())
        seen = None if plain else attention_mask.bool()[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, seen)
        return hidden

    def prepack(self) -> None:
        """Make calls of `packed` with few tokens cheaper; on the CPU, once the precision is final."""
        for layer in cast("Iterable[_Layer]", self.layers):
            layer.prepack()

    def packed(self, encoded: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """The last hidden states of texts without any padding: for each run of texts of one length (texts, tokens, hidden).

        Everything but attention looks at one token at a time, so the tokens of all texts are the rows of one matrix; attention
        takes texts of one length together, and needs no mask.
        """
        runs = [(length, len(list(texts))) for length, texts in groupby(map(len, encoded))]
        hidden = functional.embedding(torch.tensor(list(chain.from_iterable(encoded))), self.word) + self.kind[0]
        hidden += torch.cat([self.position[:length].repeat(texts, 1) for length, texts in runs])
        hidden = self.norm.normalized(hidden, self._eps)
        for layer in cast("Iterable[_Layer]", self.layers):
            hidden = layer.packed(hidden, runs)
        return [part.view(texts, length, -1) for part, (length, texts) in zip(_parts(hidden, runs), runs, strict=True)]


class _Layer(nn.Module):
    """Attention, then two linear layers; each with a residual and a norm after it."""

    def __init__(self, config: Mapping[str, Any], read: Reader, name: str) -> None:
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self._eps = config.get("layer_norm_eps", 1e-12)
        self._heads = config["num_attention_heads"]
        self._activation = _ACTIVATIONS[config.get("hidden_act", "gelu")]
        self.query = _Affine(read, name + "attention.self.query", (hidden, hidden))
        self.key = _Affine(read, name + "attention.self.key", (hidden, hidden))
        self.value = _Affine(read, name + "attention.self.value", (hidden, hidden))
        self.mixed = _Affine(read, name + "attention.output.dense", (hidden, hidden))
        self.mixed_norm = _Affine(read, name + "attention.output.LayerNorm", (hidden,))
        self.wide = _Affine(read, name + "intermediate.dense", (inner, hidden))
        self.narrow = _Affine(read, name + "output.dense", (hidden, inner))
        self.narrow_norm = _Affine(read, name + "output.LayerNorm", (hidden,))
        self._together: Product | None = None  #: query, key and value next to each other

    def prepack(self) -> None:
        """Pack the weights; those of query, key and value together."""
        parts = (self.query, self.key, self.value)
        self._together = product(torch.cat([one.weight for one in parts]), torch.cat([one.bias for one in parts]))
        for one in (self.mixed, self.wide, self.narrow):
            one.prepack()

    def forward(self, hidden: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        """`hidden`: (texts, tokens, hidden); `seen`: (texts, 1, 1, tokens), False for padding, None where there is none."""
        shape = (*hidden.shape[:2], self._heads, -1)
        query, key, value = (part.linear(hidden).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2)
        return self._rest(hidden, attended)

    def packed(self, hidden: torch.Tensor, runs: Sequence[tuple[int, int]]) -> torch.Tensor:
        """`hidden`: (tokens of all texts, hidden); `runs`: length and number of texts of one length that follow each other."""
        attended = torch.empty_like(hidden)
        parts = (_parts(part, runs) for part in self._asked(hidden))
        for *inputs, out, (length, texts) in zip(*parts, _parts(attended, runs), runs, strict=True):
            shape = (texts, length, self._heads, -1)
            query, key, value = (part.view(shape).transpose(1, 2) for part in inputs)
            out.view(shape).copy_(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2))
        return self._rest(hidden, attended)

    def _asked(self, hidden: torch.Tensor) -> Sequence[torch.Tensor]:
        """Query, key and value of each token."""
        if self._together is not None:
            return self._together(hidden).chunk(3, 1)
        return [part.linear(hidden) for part in (self.query, self.key, self.value)]

    def _rest(self, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """What follows attention; looks at each token alone."""
        hidden = self.mixed_norm.normalized(hidden + self.mixed.linear(attended), self._eps)
        return self.narrow_norm.normalized(hidden + self.narrow.linear(self._activation(self.wide.linear(hidden))), self._eps)


class _Affine(nn.Module):
    """A weight and a bias. The modules of torch would fill them first, and import torch's compiler to do so without memory."""

    def __init__(self, read: Reader, name: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = _parameter(read(f"{name}.weight", shape))
        self.bias = _parameter(read(f"{name}.bias", shape[:1]))
        self._product: Product | None = None

    def prepack(self) -> None:
        self._product = product(self.weight, self.bias)

    def linear(self, values: torch.Tensor) -> torch.Tensor:
        return functional.linear(values, self.weight, self.bias) if self._product is None else self._product(values)

    def normalized(self, values: torch.Tensor, eps: float) -> torch.Tensor:
        return functional.layer_norm(values, self.weight.shape, self.weight, self.bias, eps)


def padded(encoded: Sequence[Sequence[int]], length: int, pad: int) -> dict[str, torch.Tensor]:
    """Token ids with `pad` up to a length: `input_ids` and `attention_mask`, both (texts, length)."""
    ids = torch.full((len(encoded), length), pad)
    mask = torch.zeros((len(encoded), length), dtype=torch.int64)
    for row, one in enumerate(encoded):
        ids[row, : len(one)] = torch.tensor(one)
        mask[row, : len(one)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _parts(rows: torch.Tensor, runs: Sequence[tuple[int, int]]) -> Sequence[torch.Tensor]:
    """The rows of each run."""
    found: Sequence[torch.Tensor] = torch.split(rows, [length * texts for length, texts in runs])
    return found


def _parameter(value: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)
