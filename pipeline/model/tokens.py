"""Counts tokens the way the model does, and makes them, without loading the model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from pipeline.errors import ModelError
from pipeline.model.files import read_json

#: Number of words whose token counts are cached, about 10 MB; a full cache is emptied.
CACHED_WORDS = 100_000

#: Longer words are not cached: they are data and rarely recur.
CACHED_WORD_CHARS = 48

#: A text with a larger share of new words is counted whole: counting word by word costs twice as much.
MAX_NEW_SHARE = 0.4

#: From this share of a limit on, a text is counted whole: the sum over its words is not proven to be the count of the text.
NEAR_LIMIT = 0.9

#: Texts that show whether a tokenizer handles each word on its own: spaces, lines, indentation, marks, other scripts.
_PROBES = (
    "The quick (brown) fox's den; isn't 3.14 > e?\n\n  def  f(x_1):\n\treturn x_1\n",
    "Tokenizers unbelievably mis-tokenize 12,345 naïve café-goers — “quoted”… e-mail@example.org",
    "日本語の文章です。中文 русский текст. עברית ไทย 한국어 👩‍💻 ok",
)


class TokenCounter:
    """The model's tokenizer with truncation and padding off: it counts and never cuts."""

    def __init__(self, tokenizer: Tokenizer, fingerprint: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint  #: sha256[:16] of tokenizer.json
        self.special_tokens = int(tokenizer.num_special_tokens_to_add(False))  #: added to every text
        self._known: dict[str, int] = {}  #: token counts of words
        self._by_word = all(self._bare([text])[0] == sum(self._bare(text.split())) for text in _PROBES)

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
        return len(self.tokenizer.encode(text))

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included; much faster than one call per text."""
        return [len(encoding) for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens, several times faster than `count_batch` on running text.

        Caches words where the tokenizer handles each one on its own (BERT's and most of SentencePiece), else counts whole
        texts. Meant for packing: hard limits are checked with `sizes`.
        """
        if not self._by_word:
            return self._bare(texts)
        found = [0] * len(texts)
        whole: list[int] = []  # texts that are counted in one piece
        waiting: list[tuple[int, list[str]]] = []  # texts with words that are new, and those words
        experienced = len(self._known) > CACHED_WORDS // 10
        for place, text in enumerate(texts):
            words = text.split()
            parts = list(map(self._known.get, words))
            new = parts.count(None)
            if new > MAX_NEW_SHARE * len(words) and experienced:
                whole.append(place)
                continue
            found[place] = sum(filter(None, parts))
            if new:
                waiting.append((place, [word for word, part in zip(words, parts, strict=True) if part is None]))
        # One call for all words: calling the tokenizer costs as much as about twenty words.
        learned = self._learn([word for _, words in waiting for word in words]) if waiting else {}
        for place, words in waiting:
            found[place] += sum(learned[word] for word in words)
        for place, length in zip(whole, self._bare([texts[place] for place in whole]) if whole else (), strict=True):
            found[place] = length
        return found

    def sizes(self, texts: Sequence[str], limit: int) -> list[int]:
        """Tokens of each text, special tokens included; those of texts near or over `limit` are counted as `count_batch` does."""
        found = [length + self.special_tokens for length in self.lengths(texts)]
        near = [place for place, size in enumerate(found) if size >= NEAR_LIMIT * limit]
        for place, size in zip(near, self.count_batch([texts[place] for place in near]) if near else (), strict=True):
            found[place] = size
        return found

    def _learn(self, words: list[str]) -> dict[str, int]:
        words = list(dict.fromkeys(words))
        learned = dict(zip(words, self._bare(words), strict=True))
        if len(self._known) + len(learned) > CACHED_WORDS:
            self._known.clear()
        short = ((word, length) for word, length in learned.items() if len(word) <= CACHED_WORD_CHARS)
        self._known.update(islice(short, CACHED_WORDS))
        return learned

    def _bare(self, texts: Sequence[str]) -> list[int]:
        # len() of the encoding, not of its ids, which would be copied into a list first.
        return [len(encoding) for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


class BertTokens:
    """Token ids of texts for models of the kind of BERT; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        pad = read_json(folder / "tokenizer_config.json").get("pad_token", "[PAD]")
        self.pad: int = self._tokenizer.token_to_id(pad if isinstance(pad, str) else pad["content"]) or 0  #: id of padding

    def ids(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """Ids of each text, `[CLS]` and `[SEP]` included; texts over `limit` tokens are cut before their `[SEP]`."""
        found: list[list[int]] = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        if limit is not None:
            found = [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in found]
        return found
