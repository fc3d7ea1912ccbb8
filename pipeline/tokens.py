"""Counts tokens the way the model does, without loading the model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from pipeline.errors import ModelError


class TokenCounter:
    """The model's tokenizer with truncation and padding off: it counts, it never cuts."""

    def __init__(self, tokenizer: Tokenizer, fingerprint: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint  #: sha256[:16] of its description
        self.special_tokens = int(tokenizer.num_special_tokens_to_add(False))  #: added to every text

    @classmethod
    def from_folder(cls, folder: Path) -> TokenCounter:
        """Read `tokenizer.json` of a model's folder.

        Raises ModelError when it is missing or damaged.
        """
        path = folder / "tokenizer.json"
        try:
            content = path.read_bytes()
            tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the Rust side raises plain exceptions
            raise ModelError(f"{path} cannot be read: {error}") from error
        return cls(tokenizer, hashlib.sha256(content).hexdigest()[:16])

    def count(self, text: str) -> int:
        """Tokens of a text, special tokens included."""
        return len(self.tokenizer.encode(text).ids)

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included; much faster than one call a text."""
        return [len(encoding.ids) for encoding in self.tokenizer.encode_batch_fast(list(texts))]
