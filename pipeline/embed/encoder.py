"""The model behind a local embedder: texts to token ids to vectors. The usual models are loaded without large libraries.

Importing sentence-transformers also imports scikit-learn and SciPy, which no embedding needs, and importing transformers
takes seconds. Models that consist of a text encoder, pooling and normalization are run with equal results without the first
of them and, where the encoder is BERT, without the second. All others use sentence-transformers.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from typing_extensions import override

from pipeline.embed.bert import Bert, padded
from pipeline.embed.parts import most_parts, part_vectors
from pipeline.errors import ModelError
from pipeline.model.files import ModelFiles
from pipeline.model.plain import is_plain_bert, prompts, usual_pooling
from pipeline.model.tokens import BertTokens


class Encoder(Protocol):
    """A loaded model. Its transformer computes in any precision; the modules after it compute in fp32."""

    prompts: Mapping[str, str | None]  #: prefix of texts, by purpose: `query`, `document`
    packs: bool  #: whether `packed` works

    def divide(self, size: int, max_tokens: int) -> None:
        """Add the vectors of parts of `size` tokens to those of texts of up to `max_tokens`, as `embed.parts` makes them.

        Vectors then are (rows, 1 + parts, dimension), that of the whole first. Raises ModelError if the model pools otherwise.
        """
        raise ModelError("the model's vector is no mean of its tokens' vectors, as KB_PART_TOKENS needs it")

    def tokenize(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """Token ids of each text, special tokens included; cut to `limit` tokens. Not from several threads at once."""

    def batch(self, encoded: Sequence[Sequence[int]], length: int) -> dict[str, torch.Tensor]:
        """Token ids padded to `length`: `input_ids` and `attention_mask`, both (texts, length)."""

    def to(self, device: str) -> None:
        """Move the weights to a device."""

    def cast(self, dtype: torch.dtype) -> None:
        """Change the transformer's precision."""

    def prepack(self) -> None:
        """Make calls of `packed` with few tokens cheaper; on the CPU, once the precision is final."""

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
        self._pooling = pooling

    @override
    def divide(self, size: int, max_tokens: int) -> None:
        if self._pooling != "mean":
            super().divide(size, max_tokens)
        most = most_parts(max_tokens, size)

        def pool(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return torch.cat([_mean(tokens, mask).unsqueeze(1), part_vectors(tokens, mask, size, most)], 1)

        self._pool = pool

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
        super().__init__(self._bert, pooling, prompts(folder))
        self._tokens = BertTokens(folder)

    @override
    def tokenize(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        return self._tokens.ids(texts, limit)

    @override
    def batch(self, encoded: Sequence[Sequence[int]], length: int) -> dict[str, torch.Tensor]:
        return padded(encoded, length, self._tokens.pad)

    @override
    def __call__(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        tokens = self._bert(batch["input_ids"], batch["attention_mask"]).float()
        return self._pool(tokens, batch["attention_mask"])

    @override
    def prepack(self) -> None:
        self._bert.prepack()

    @override
    def packed(self, encoded: Sequence[Sequence[int]]) -> torch.Tensor:
        runs = [tokens.float() for tokens in self._bert.packed(encoded)]
        return torch.cat([self._pool(tokens, torch.ones(tokens.shape[:2], dtype=torch.int64)) for tokens in runs])


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
        return cls(model, tokenizer, pooling, prompts(folder))

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
