"""The values that flow between stages: frozen, small, picklable, with ids that never change."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import pickle
import re
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import types
from pipeline.types import (
    OPEN_STATES,
    Chunk,
    ChunkIds,
    DocumentInfo,
    DocumentState,
    Element,
    EmbeddedChunk,
    Hit,
    Loss,
    LossKind,
    PointMeta,
    Reason,
    Refinement,
    Results,
    SourceFile,
    StagedFile,
    chunk_id,
    document_id,
    embed_text,
)

CHUNK = Chunk("c", "d", 0, "text", 3, ("A", "B"), 1, 2, 10, 14)
SOURCE = SourceFile("file:///a", Path("/a"), 1, 2)
VALUES = [
    CHUNK,
    Loss(LossKind.CHART, "page 1", "x", 2),
    SOURCE,
    StagedFile(SOURCE, "00", "00/00"),
    Element("text"),
    types.RecordFields("id", ("title",)),
    types.Embedding([1.0], ([1.0],)),
    EmbeddedChunk(CHUNK, [1.0]),
    Hit(0.5, "file:///a", "A", "text", (), None, None, None, None, "d", "c"),
    Refinement(),
    Results([]),
    PointMeta(0),
    DocumentInfo("d", "file:///a"),
]


def test_every_dataclass_is_tried_here() -> None:
    defined = {value for value in vars(types).values() if inspect.isclass(value) and dataclasses.is_dataclass(value)}
    assert {type(value) for value in VALUES} == defined


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_have_slots_and_travel(value: object) -> None:
    name = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")
    assert pickle.loads(pickle.dumps(value)) == value


def test_ids_are_the_ones_that_stores_already_hold() -> None:
    """Every stored point hangs on these: a change here orphans all of them."""
    document = document_id("documents", "file:///srv/handbook.pdf")
    assert document == "9486e6c7-b763-5ef5-82f1-7854ad782e96"
    assert chunk_id(document, "Some text", 0) == "9ad267b6-8ed0-54c8-92ff-7602eaa1b52d"
    assert chunk_id(document, "Some text", 1) == "567fe6ec-6d9c-5591-86e6-91319d65d941"


def test_ids_differ_by_collection_uri_text_and_occurrence() -> None:
    first, second = document_id("a", "file:///x"), document_id("b", "file:///x")
    ids = {first, second, document_id("a", "file:///y")}
    ids |= {chunk_id(document, text, n) for document in (first, second) for text in ("t", "u") for n in (0, 1)}
    assert len(ids) == 3 + 8


@given(st.text(st.characters(exclude_categories=())), st.integers(0, 99))
def test_any_text_has_an_id(text: str, occurrence: int) -> None:
    document = document_id("c", "file:///x")
    found = chunk_id(document, text, occurrence)
    assert str(uuid.UUID(found)) == found
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    assert found == str(uuid.uuid5(uuid.UUID(document), f"{digest}:{occurrence}"))


def test_embed_text_puts_headings_on_a_line_of_their_own() -> None:
    assert embed_text((), "text") == "text"
    assert CHUNK.embed_text == "A > B\ntext"


def test_open_states_are_those_with_work_ahead() -> None:
    closed = {DocumentState.INDEXED, DocumentState.QUARANTINED, DocumentState.SKIPPED, DocumentState.DELETED}
    assert set(OPEN_STATES) | closed == set(DocumentState)
    assert not set(OPEN_STATES) & closed


@pytest.mark.parametrize("enum", [DocumentState, Reason, types.ElementKind])
def test_codes_are_their_names_in_lower_case(enum: type[DocumentState]) -> None:
    for member in enum:
        assert member.value == member.name.lower()
        assert re.fullmatch(r"[a-z_]+", member.value)


def test_nothing_internal_is_imported() -> None:
    tree = ast.parse(inspect.getsource(types))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in modules if name.split(".")[0] in ("pipeline", "workers")]


def test_ids_count_the_occurrences_of_each_text() -> None:
    document = document_id("docs", "file:///a.txt")
    ids = ChunkIds(document)
    texts = ["same", "other", "same", "same", "lone \ud800", "other"]
    occurrences = [0, 0, 1, 2, 0, 1]
    expected = [chunk_id(document, text, occurrence) for text, occurrence in zip(texts, occurrences, strict=True)]
    assert [ids.next(text) for text in texts] == expected
