"""Documents by page and by id: the ledger's filters let through the same documents as those of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.filters import OWN_TYPES, bind, meets, tree_of
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.sources.uris import folder_of, member_uri, object_uri, uri_of
from pipeline.types import SourceFile, StagedFile, document_id

URIS = [
    *(
        uri_of(Path(path))
        for path in (
            "/a/x.txt",
            "/a/b/x.txt",
            "/a/b/c/y.txt",
            "/ab/x.txt",
            "/A/x.txt",
            "/root.txt",
            "/a/50%/x.txt",
            "/a/ü ö/x.txt",
            "/a/b!/x.txt",
            "/a/_/x.txt",
            "/a/b.zip",
        )
    ),
    member_uri(uri_of(Path("/a/b.zip")), "inner/x.txt"),
    member_uri(uri_of(Path("/a/b.zip")), "x.txt"),
    member_uri(member_uri(uri_of(Path("/a/b.zip")), "c.zip"), "x.txt"),
    object_uri("s3", "bucket/a/x.txt"),
    object_uri("s3", "bucket/x.txt"),
    object_uri("upload", "x.txt"),
    object_uri("upload", "a/x.txt"),
]

FOLDERS = sorted({folder_of(uri) for uri in URIS})

#: Values of filters: everything that a folder or URI could be cut to, and what is no folder.
VALUES = sorted(
    {value[:end] for value in (*FOLDERS, *URIS) for end in range(len(value) + 1)} | {"%", "/a/%", "_", "/a/", "a", "file:///a"}
)


@pytest.fixture
def browsed(ledger: Ledger) -> Ledger:
    ledger.collections.add(Collection("docs", "docs-1", "m", "r", 4, "f", "[]", 0.0))
    staged = {document_id("docs", uri): StagedFile(SourceFile(uri, None, 10, 1), "1" * 64, "") for uri in URIS}
    ledger.intake.record_staged("docs", 1, staged)
    return ledger


@pytest.mark.parametrize("field", ["folder", "uri"])
@pytest.mark.parametrize("star", ["", "*"])
def test_folders_and_uris_mean_in_the_ledger_what_they_mean_in_the_store(browsed: Ledger, field: str, star: str) -> None:
    for value in VALUES:
        wanted = {field: value + star}
        tree = bind(tree_of(wanted), OWN_TYPES)
        expected = {uri for uri in URIS if meets(tree, {"uri": uri, "folder": folder_of(uri)})}
        assert {one.uri for one in browsed.browse.page("docs", wanted, limit=100)} == expected, wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "folder = /a or uri ~ 's3://*'",
        "not (folder ~ '/a*' or folder = s3://bucket) and uri exists",
        "folder in (/a, '/a/b') and not uri = 'file:///a/x.txt'",
        "folder not in (/a, s3://bucket/a) and (uri ~ '*' and folder exists)",
        "folder != /a* or folder missing",
        "media_type != text/plain and document_id not in (x, y)",
    ],
)
def test_joined_conditions_mean_in_the_ledger_what_they_mean_in_the_store(browsed: Ledger, wanted: str) -> None:
    tree = bind(tree_of([wanted]), OWN_TYPES)
    met = {uri for uri in URIS if meets(tree, {"uri": uri, "folder": folder_of(uri), "media_type": "", "document_id": "z"})}
    assert {one.uri for one in browsed.browse.page("docs", [wanted], limit=100)} == met
    assert len(met) > 0 or "missing" in wanted


def test_pages_follow_each_other_and_a_filter_may_be_repeated(browsed: Ledger) -> None:
    found, after = [], ""
    while page := browsed.browse.page("docs", after=after, limit=3):
        found += [one.id for one in page]
        after = page[-1].id
    assert found == sorted(document_id("docs", uri) for uri in URIS)
    both = [("folder", "/a*"), ("folder", "/a/b*")]
    assert browsed.browse.page("docs", both) == browsed.browse.page("docs", {"folder": "/a/b*"})
    assert browsed.browse.count("docs", both) == {"pending": len(browsed.browse.page("docs", both))}


def test_an_id_outside_of_the_filter_is_one_that_does_not_exist(browsed: Ledger) -> None:
    key = document_id("docs", URIS[0])
    found = browsed.browse.get(key, {"uri": URIS[0]})
    assert found is not None
    assert (found[0].uri, found[1]) == (URIS[0], "docs")
    assert browsed.browse.get(key, {"uri": URIS[1]}) is None
    assert browsed.browse.get(key, [("uri", URIS[0]), ("folder", "/ab")]) is None
    with pytest.raises(ConfigError, match="colour"):
        browsed.browse.get(key, {"colour": "red"})


def test_deleted_documents_are_not_listed(browsed: Ledger) -> None:
    key = document_id("docs", URIS[0])
    browsed.removal.mark("docs", [key])
    assert browsed.browse.get(key) is None
    assert key not in {one.id for one in browsed.browse.page("docs")}
