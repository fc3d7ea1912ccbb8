"""Every operator of the filter language, answered by both stores and by Python's own evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from pipeline.errors import FilterError
from pipeline.filters import OWN_TYPES, FieldType, Filters, Stored, bind, meets, tree_of
from pipeline.filters.binding import instant
from pipeline.store.base import VectorStore
from pipeline.types import DocumentInfo, MetadataValue
from tests.made_points import DIMENSION, made_document, made_points, made_vector

TYPES = {
    "team": FieldType.KEYWORD,
    "year": FieldType.INTEGER,
    "price": FieldType.FLOAT,
    "draft": FieldType.BOOL,
    "due": FieldType.DATETIME,
    "größe": FieldType.KEYWORD,
}

FIELDS: Mapping[str, Mapping[str, MetadataValue]] = {
    "a": {"team": "law", "year": 2019, "price": 1.5, "draft": True, "due": "2024-05-31T00:00:00Z", "größe": "xl"},
    "b": {"team": ("law", "sales"), "year": 2020, "price": 2.0, "draft": False, "due": "2024-05-31T12:30:00.250000Z"},
    "c": {"team": "contracts/north", "year": -7, "price": -0.25},
    "d": {"team": "contracts/*", "draft": False, "due": "1999-01-01T00:00:00Z"},
    "e": {},
}

#: Filters and the documents that pass.
CASES: Mapping[str, str] = {
    "year = 2020": "b",
    "year != 2020": "acde",
    "year < 2020": "ac",
    "year <= 2020": "abc",
    "year > -7": "ab",
    "year >= 2019": "ab",
    "year >= 2019.5": "b",
    "year in (2019, -7, 5)": "ac",
    "year not in (2019, -7)": "bde",
    "price = 2": "b",
    "price != 1.5": "bcde",
    "price in (1.5, -0.25)": "ac",
    "price < 0": "c",
    "price >= 1.5e0": "ab",
    "draft = true": "a",
    "draft = FALSE": "bd",
    "draft != true": "bcde",
    "draft in (true, false)": "abd",
    "not draft = true": "bcde",
    "due = 2024-05-31": "a",
    "due = 2024-05-31T14:30:00.25+02:00": "b",
    "due > 2024-05-31": "b",
    "due <= 2024-05-31": "ad",
    "due in (2024-05-31, '1999-01-01T00:00:00Z')": "ad",
    "team = law": "ab",
    "team = sales": "b",
    "team != law": "cde",
    "team in (sales, 'contracts/*')": "bd",
    "team ~ 'contracts/*'": "cd",
    "team ~ contracts/n*": "c",
    "team ~ *": "abcd",
    "not team ~ law*": "cde",
    "team = contracts/*": "d",
    "größe = xl": "a",
    "größe exists": "a",
    "team exists": "abcd",
    "year missing": "de",
    "not (year missing or draft missing)": "ab",
    "year >= 2019 and team in (law, x) and not draft = true": "b",
    "year = 2019 or year = -7 and team = law": "a",
    "(year = 2019 or year = -7) and team ~ con*": "c",
    "not not year = 2020": "b",
    "folder = /guides and year = 2020": "b",
    "folder ~ '/guides/d*'": "de",
    "uri ~ 'file:///guides/d*' or uri = 'file:///guides/a.md'": "ade",
    "folder exists": "abcde",
    "media_type missing": "",
    "media_type ~ 'text/*' and document_id ~ *": "abcde",
    "media_type ~ 'texts*'": "",
    "document_id != x": "abcde",
}


def document(name: str) -> DocumentInfo:
    folder = "/guides/deep" if name in "de" else "/guides"
    return replace(made_document(f"{name}.md", folder), metadata=tuple(FIELDS[name].items()))


@pytest.fixture
def filled(store: VectorStore, name: str) -> Callable[[Filters], str]:
    """Names of the documents that pass, by all ways to ask a store."""
    store.add_fields(name, TYPES)
    documents = {document(one).id: one for one in FIELDS}
    for one in FIELDS:
        store.upsert(name, made_points(document(one), 2))

    def passed(filters: Filters) -> str:
        hits = store.search(name, made_vector(1, DIMENSION), 50, filters)
        found = "".join(sorted({documents[hit.document_id] for hit in hits}))
        assert len(hits) == 2 * len(found) == store.count(name, filters=filters)
        assert [one for key, one in documents.items() if store.document_chunks(name, key, filters)] == list(found)
        words = store.search(name, None, 50, filters, "words")
        assert {hit.document_id for hit in words} == {hit.document_id for hit in hits}
        return found

    return passed


def test_every_operator(filled: Callable[[Filters], str]) -> None:
    wrong = {}
    for text, expected in CASES.items():
        if (found := filled([text])) != expected:
            wrong[text] = (found, expected)
    assert not wrong


def test_python_says_the_same() -> None:
    wrong = {}
    for text, expected in CASES.items():
        tree = bind(tree_of([text]), {**TYPES, **OWN_TYPES})
        found = "".join(one for one in FIELDS if meets(tree, plain(one)))
        if found != expected:
            wrong[text] = (found, expected)
    assert not wrong


def plain(name: str) -> dict[str, Stored]:
    made = document(name)
    fields: dict[str, Stored] = dict(made.metadata)
    if isinstance(due := fields.get("due"), str):
        fields["due"] = instant(due)
    return {**fields, "uri": made.uri, "folder": made.folder, "media_type": made.media_type, "document_id": made.id}


def test_the_object_form_and_pairs(filled: Callable[[Filters], str]) -> None:
    assert filled({"year": {">=": 2019, "<": 2020}}) == "a"
    assert filled({"team": "law", "draft": False}) == "b"
    assert filled({"or": [{"year": {"in": [2019, -7]}}, "due < 2000-01-01"]}) == "acd"
    assert filled({"not": {"draft": True}, "year": {"exists": True}}) == "bc"
    assert filled({"team": {"~": "contracts/*", "!=": "contracts/*"}}) == "c"
    assert filled({"team": {"missing": True}}) == filled({"team": {"exists": False}}) == "e"
    assert filled({"price": 2, "due": {">": "2024-05-31"}}) == "b"
    assert filled({"folder": "/guides/d*"}) == "de"
    assert filled({"folder": {"=": "/guides/d*"}}) == ""
    assert filled([("folder", "/guides*"), "year = 2020", {"draft": False}]) == "b"
    assert filled({"or": []}) == ""
    assert filled({"and": []}) == "abcde"
    assert filled({}) == filled([]) == "abcde"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("colour = red", "character 1: there is no field 'colour'"),
        ("year = 2020 and colour = red", "character 17: there is no field 'colour'.*team, year"),
        ("year = soon", "character 1: year is a whole number, and 'soon' is not"),
        ("year = 2020.5", "whole number"),
        ("year = '2020'", "whole number"),
        ("draft = 1", "draft is true or false"),
        ("draft < true", "cannot be compared by <; use = or !="),
        ("team > law", "team is a text and cannot be compared by >"),
        ("uri >= x", "uri is a text"),
        ("year ~ 20*", "only texts can be compared by ~"),
        ("due = yesterday", "a date or time such as"),
        ({"year": "2020"}, "wrong at year: year is a whole number"),
        ({"and": [{"team": 7}]}, r"wrong at and\[0\].team: team is a text, and 7 is not"),
        ({"draft": "true"}, "draft is true or false"),
        ({"price": 10**400}, "price is a number"),
        ({"price": float("nan")}, "price is a number"),
        ("price > 1" + "0" * 400, "price is a number"),
        ({"year": {">": True}}, "whole number"),
    ],
)
def test_fields_and_types_that_do_not_fit(wanted: str | dict[str, object], why: str) -> None:
    with pytest.raises(FilterError, match=why):
        bind(tree_of([wanted]), {**TYPES, **OWN_TYPES})


def test_fields_are_known_by_their_indexes(store: VectorStore, name: str) -> None:
    assert store.fields(name) == {}
    with pytest.raises(FilterError, match="there is no field 'year'"):
        store.count(name, filters={"year": 1})
    store.add_fields(name, TYPES)
    store.add_fields(name, {**TYPES, "year": FieldType.KEYWORD, "new": FieldType.BOOL})
    assert store.fields(name) == {**TYPES, "new": FieldType.BOOL}


def test_metadata_comes_back_and_can_be_replaced(store: VectorStore, name: str) -> None:
    made = document("b")
    store.upsert(name, made_points(made, 2))
    assert {one for one, _ in store.scan_points(name)} == {made}
    assert dict(store.search(name, made_vector(1), 1, ())[0].metadata) == dict(made.metadata)
    store.update_document(name, replace(made, metadata=(("year", 3),)))
    assert {one.metadata for one, _ in store.scan_points(name)} == {(("year", 3),)}
    store.update_document(name, replace(made, metadata=()))
    assert {one.metadata for one, _ in store.scan_points(name)} == {()}
