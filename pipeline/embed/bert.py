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

from pipeline.model.files import read_json
from pipeline.model.plain import weights_prefix

#: Activations by their name in `config.json`.
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gelu": functional.gelu, "relu": functional.relu}

#: From the name and the shape of a weight to the weight.
Reader = Callable[[str, tuple[int, ...]], torch.Tensor]

#: Prepared products without padding get a multiple of ROWS rows, from MANY_ROWS on: oneDNN makes and keeps a kernel for each
#: number of rows. Smaller calls, such as questions, get none: they would compute several times as much.
ROWS, MANY_ROWS = 64, 512

#: Rows of a usual product, for which oneDNN chooses the layout of a prepared weight.
USUAL_ROWS = 2048


class Bert(nn.Module):
    """The encoder. Its weights are mapped from the file; only those of queries, keys and values are copied, into one."""

    def __init__(self, config: Mapping[str, Any], read: Reader) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self._eps = config.get("layer_norm_eps", 1e-12)
        self.word = _parameter(read("embeddings.word_embeddings.weight", (config["vocab_size"], hidden)))
        self.position = _parameter(read("embeddings.position_embeddings.weight", (config["max_position_embeddings"], hidden)))
        self.kind = _parameter(read("embeddings.token_type_embeddings.weight", (config.get("type_vocab_size", 2), hidden)))
        self.norm = _Affine(read, (hidden,), "embeddings.LayerNorm")
        self.layers = nn.ModuleList(
            _Layer(config, read, f"encoder.layer.{number}.") for number in range(config["num_hidden_layers"])
        )
        self._rows = 1

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

    def prepare(self) -> None:
        """Lay out the weights of all products as the kernels of a CPU read them, where torch can.

        The model cannot be moved or cast afterwards.
        """
        if _can_prepare(self.word):
            for layer in cast("Iterable[_Layer]", self.layers):
                layer.prepare()
            self._rows = min(ROWS, len(self.position))

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

    def packed(self, encoded: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """The last hidden states of texts without any padding: for each run of texts of one length (texts, tokens, hidden).

        Everything but attention looks at one token at a time, so the tokens of all texts are the rows of one matrix; attention
        takes texts of one length together, and needs no mask.
        """
        runs = [(length, len(list(texts))) for length, texts in groupby(map(len, encoded))]
        wanted = len(runs)
        rows = sum(map(len, encoded))
        spare = -rows % self._rows if rows >= MANY_ROWS else 0
        if spare:  # as a further text, which nobody reads
            runs.append((spare, 1))
        hidden = functional.embedding(torch.tensor([*chain.from_iterable(encoded), *[0] * spare]), self.word) + self.kind[0]
        hidden += torch.cat([self.position[:length].repeat(texts, 1) for length, texts in runs])
        hidden = self.norm.normalized(hidden, self._eps)
        for layer in cast("Iterable[_Layer]", self.layers):
            hidden = layer.packed(hidden, runs)
        found = [part.view(texts, length, -1) for part, (length, texts) in zip(_parts(hidden, runs), runs, strict=True)]
        return found[:wanted]


class _Layer(nn.Module):
    """Attention, then two linear layers; each with a residual and a norm after it."""

    def __init__(self, config: Mapping[str, Any], read: Reader, name: str) -> None:
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self._eps = config.get("layer_norm_eps", 1e-12)
        self._heads = config["num_attention_heads"]
        self._activation = _ACTIVATIONS[config.get("hidden_act", "gelu")]
        self.inputs = _Affine(read, (hidden, hidden), *(f"{name}attention.self.{part}" for part in ("query", "key", "value")))
        self.mixed = _Affine(read, (hidden, hidden), name + "attention.output.dense")
        self.mixed_norm = _Affine(read, (hidden,), name + "attention.output.LayerNorm")
        self.wide = _Affine(read, (inner, hidden), name + "intermediate.dense")
        self.narrow = _Affine(read, (hidden, inner), name + "output.dense")
        self.narrow_norm = _Affine(read, (hidden,), name + "output.LayerNorm")

    def prepare(self) -> None:
        """See Bert.prepare."""
        for affine in (self.inputs, self.mixed, self.wide, self.narrow):
            affine.prepare()

    def forward(self, hidden: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
        """`hidden`: (texts, tokens, hidden); `seen`: (texts, 1, 1, tokens), False for padding, None where there is none."""
        query, key, value = self._inputs(self.inputs.linear(hidden))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2)
        return self._rest(hidden, attended)

    def packed(self, hidden: torch.Tensor, runs: Sequence[tuple[int, int]]) -> torch.Tensor:
        """`hidden`: (tokens of all texts, hidden); `runs`: length and number of texts of one length that follow each other."""
        attended = torch.empty_like(hidden)
        inputs = _parts(self.inputs.linear(hidden), runs)
        for part, out, (length, texts) in zip(inputs, _parts(attended, runs), runs, strict=True):
            query, key, value = self._inputs(part.view(texts, length, -1))
            found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
            out.view(found.shape).copy_(found)
        return self._rest(hidden, attended)

    def _inputs(self, joined: torch.Tensor) -> Sequence[torch.Tensor]:
        """Queries, keys and values, each (texts, heads, tokens, size), of (texts, tokens, 3 * hidden)."""
        found: Sequence[torch.Tensor] = joined.view(*joined.shape[:2], 3, self._heads, -1).permute(2, 0, 3, 1, 4).unbind()
        return found

    def _rest(self, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """What follows attention; looks at each token alone."""
        hidden = self.mixed_norm.normalized(hidden + self.mixed.linear(attended), self._eps)
        return self.narrow_norm.normalized(hidden + self.narrow.linear(self._activation(self.wide.linear(hidden))), self._eps)


class _Affine(nn.Module):
    """A weight and a bias; those of several names below each other, so that one product serves them all.

    The modules of torch would fill them first, and import torch's compiler to do so without memory.
    """

    def __init__(self, read: Reader, shape: tuple[int, ...], *names: str) -> None:
        super().__init__()
        self.weight = _parameter(_joined([read(f"{name}.weight", shape) for name in names]))
        self.bias = _parameter(_joined([read(f"{name}.bias", shape[:1]) for name in names]))
        self._prepared = False

    def prepare(self) -> None:
        """See Bert.prepare."""
        self.weight = _parameter(torch.ops.mkldnn._reorder_linear_weight(self.weight, USUAL_ROWS))
        self._prepared = True

    def linear(self, values: torch.Tensor) -> torch.Tensor:
        if self._prepared:
            found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(values, self.weight, self.bias, "none", [], "")
            return found
        return functional.linear(values, self.weight, self.bias)

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


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def _can_prepare(weight: torch.Tensor) -> bool:
    """Whether weights like this one can be prepared: in bf16, on a CPU with oneDNN's own kernels for it (not those of ARM)."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not there:
        return False
    kernels = torch.ops.mkldnn
    return bool(kernels._is_mkldnn_bf16_supported()) and not kernels._is_mkldnn_acl_supported()


def _parameter(value: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)
