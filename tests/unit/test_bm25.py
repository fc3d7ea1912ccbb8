"""BM25 weights: terms, numbers, and that they are the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import Stemmer

from pipeline.store.bm25 import (
    AVERAGE_WORDS,
    K1,
    B,
    document_weights,
    query_weights,
)
from tests.services import REPOSITORY


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("ＡＢＣ", "abc"),
        ("Ends here.", "ends (here)"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
    ],
)
def test_ways_to_write_the_same(one: str, other: str) -> None:
    assert document_weights(one) == document_weights(other)
    assert query_weights(one) == query_weights(other)


def test_weights_are_those_of_the_formula() -> None:
    vector = document_weights("boat boat harbour")
    added = K1 * (1 - B + B * 3 / AVERAGE_WORDS)
    assert sorted(vector.values) == [round(1 * (K1 + 1) / (1 + added), 4), round(2 * (K1 + 1) / (2 + added), 4)]
    assert vector.indices == sorted(vector.indices)
    assert set(query_weights("the harbour, the boat").indices) > set(vector.indices)
    assert max(query_weights("boat Boat").values) == 2 * max(query_weights("boat").values) == 2.0
    assert max(query_weights("the boat").values) == 1.0


def test_a_word_counts_less_in_a_longer_text_and_less_each_time() -> None:
    def weight(text: str) -> float:
        vector = document_weights(text)
        return vector.values[vector.indices.index(query_weights("boat").indices[0])]

    assert weight("boat " + "word " * 300) < weight("boat") < weight("boat boat")
    assert weight("boat " * 50) < K1 + 1


@pytest.mark.parametrize("text", ["", " ", "?!…", "\ud800", "\x00"])
def test_no_words(text: str) -> None:
    assert document_weights(text).indices == query_weights(text).indices == []


def test_ids_are_unique_32_bit_numbers() -> None:
    vector = document_weights(" ".join(f"word{n}" for n in range(5000)) + " word1")
    assert len(set(vector.indices)) == len(vector.indices) == len(vector.values)
    assert all(0 <= index < 2**32 for index in vector.indices)


def test_they_are_the_same_in_every_process() -> None:
    """Were these numbers to change, no stored vector could be compared with a question any more."""
    text = "os.path.join Größe 東京 3.11"
    code = f"from pipeline.store.bm25 import document_weights; print(document_weights({text!r}))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}, capture_output=True,
            text=True, check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert told == {str(document_weights(text))}
    assert 310065530 in query_weights("join").indices


def test_readers_need_a_stemmer_and_nothing_else(tmp_path: Path) -> None:
    """docs/search.md has readers take the package to an environment without kb-ingest's requirements."""
    (tmp_path / Path(Stemmer.__file__).name).symlink_to(Stemmer.__file__)
    question = "from pipeline.store.bm25 import query_weights; print(query_weights('join'))"
    code = f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(tmp_path)!r}]; {question}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(query_weights("join")), "")
