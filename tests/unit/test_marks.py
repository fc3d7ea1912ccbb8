"""The words of a question in a text, and their places."""

from __future__ import annotations

import pytest

from pipeline.store import marks as module
from pipeline.store.marks import marks


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("the notice PERIOD", "Notice of the notice-period: periods", ["Notice", "notice", "period", "periods"]),
        ("the", "in the notice", ["the"]),
        ("Buch", "Die Bücher", ["Bücher"]),
        ("C++", "C++, not C#", ["C++"]),
        ("user", "see getUserName", ["getUserName"]),
        ("กุญแจ", "มีกุญแจของ", ["กุญแจ"]),
        ("경비원을", "경비원이 있다", ["경비원"]),
        ("path", "see os.path.join", ["path"]),
        ("os.path", "os.path and path", ["os.path", "path"]),
        ("notice", "Ｎｏｔｉｃｅ, no\u0301tice", ["Ｎｏｔｉｃｅ", "no\u0301tice"]),
        ("東京", "東京都は日本の首都", ["東京"]),
        ("東京都", "in東京都", ["東京都"]),
        ("都", "首都と京都", ["都", "都"]),
        ("", "anything", []),
        ("x", "", []),
    ],
)
def test_words_of_a_query_are_found_where_they_stand(query: str, text: str, expected: list[str]) -> None:
    found = marks(query, text)
    assert [text[start:end] for start, end in found.places] == expected
    assert bool(found.places) == bool(found.words)


def test_a_word_that_the_comparison_joins_to_others_is_marked() -> None:
    """Normalized, \u338f becomes letters, and what follows is part of a longer word than in the text."""
    text = "5 \u338f-notice"
    found = marks("notice", text)
    assert found.words == ["notice"]
    assert [text[start:end] for start, end in found.places] == ["notice"]


def test_words_of_headings_count_and_have_no_places() -> None:
    found = marks("notice of leaving", "A notice ends it.", ["Leaving", "Notice"])
    assert found.words == ["notice", "leaving"]
    assert found.places == [(2, 8)]


def test_headings_change_neither_places_nor_their_language() -> None:
    text = "Die B\u00fccher sind da."
    assert marks("Buch", text, ["The books of the house"]).places == marks("Buch", text).places == [(4, 10)]


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\u00a0", "\u2003", "\x1c", "\u3000"])
def test_pieces_are_found_between_any_white_space(space: str) -> None:
    text = f"start{space}art,{space}cart{space}art{space}(art){space}art"
    found = marks("art", text)
    assert [text[start:end] for start, end in found.places] == ["art"] * 4
    assert found.places == sorted(found.places)
    assert found.places[-1] == (len(text) - 3, len(text))


def test_pieces_that_were_forgotten_are_learned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"the notice of page {number}, periods and notice-periods" for number in range(20)]
    known = [marks("notice period", text) for text in texts]
    assert all(len(one.places) == 4 and one.words == ["notice", "period"] for one in known)
    monkeypatch.setattr(module, "MAX_PIECES", 3)
    assert [marks("notice period", text) for text in texts] == known
    monkeypatch.setattr(module, "MAX_PIECES", 1 << 16)
    monkeypatch.setattr(module, "MAX_CHARACTERS", 10)
    assert [marks("notice period", text) for text in texts] == known
