"""The map of a collection: where documents stand, what is there twice, what stands alone, and a page that is safe to open."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lxml import html as lxml_html
from numpy.typing import NDArray

from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.reports.map import EmbeddingMap, draw
from pipeline.reports.map.folders import MAX_FOLDERS, OTHER, group
from pipeline.reports.map.likeness import NEIGHBOURS, compare, outliers, principal_plane, written
from pipeline.reports.map.page import map_page
from pipeline.sources.uris import shown_path, uri_of
from pipeline.store.edge import EdgeStore
from pipeline.text import visible
from pipeline.types import DocumentInfo, SourceFile, Stage, StagedFile, document_id
from tests.made_points import DIMENSION, made_points
from workers.cli import run

#: Would end the script element, were it written as it is; the last ones separate lines in JavaScript.
HOSTILE = "Title </script><script>alert(1)</script><!-- @DATA@ \u2028 \u2029 \" ' &"


def units(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def test_the_plane_shows_the_directions_of_most_variance() -> None:
    random = np.random.default_rng(1)
    data = random.normal(size=(500, 30)) * 0.01
    data[:, 7] += random.normal(size=500) * 3
    data[:, 11] += random.normal(size=500)
    plane, explained = principal_plane(data.astype(np.float32))
    assert plane.shape == (500, 2)
    assert plane.min(0).tolist() == [0, 0]
    assert plane[:, 0].max() == 1
    assert plane[:, 1].max() < 1  # on the scale of the first, along which there is more
    assert explained > 0.99
    for axis, column in ((0, 7), (1, 11)):
        assert abs(np.corrcoef(plane[:, axis], data[:, column])[0, 1]) > 0.999
    again, _ = principal_plane(data.astype(np.float32))
    assert (again == plane).all()


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_documents_that_are_all_the_same_stand_at_one_place(count: int) -> None:
    plane, explained = principal_plane(np.ones((count, 5), np.float32))
    assert plane.tolist() == [[0.5, 0.5]] * count
    assert explained == 1


def test_pairs_and_neighbours_are_those_of_the_whole_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.reports.map.likeness.CELLS", 7 * 60)  # several blocks, the last one not full
    random = np.random.default_rng(2)
    rows = units(random.normal(size=(60, 16)) + 2.0)
    rows[33] = rows[4]
    rows[50] = units(rows[[10]] + 0.02 * random.normal(size=(1, 16)))[0]
    rows[21] = units(-np.ones((1, 16)))[0]
    cosines = rows @ rows.T
    expected = {(i, j) for i in range(60) for j in range(i + 1, 60) if cosines[i, j] >= 0.97}
    likeness = compare(rows, 0.97, 200)
    assert {pair[1:] for pair in likeness.near} == expected >= {(4, 33), (10, 50)}
    assert likeness.near_total == len(expected)
    assert likeness.near[0][1:] == (4, 33)
    assert [pair[0] for pair in likeness.near] == sorted((pair[0] for pair in likeness.near), reverse=True)
    np.fill_diagonal(cosines, -2)
    nearest = np.sort(cosines, axis=1)[:, -NEIGHBOURS:].mean(1)
    assert likeness.neighbours == pytest.approx(nearest, abs=1e-5)
    assert outliers(likeness.neighbours)[0] == 21
    few = compare(rows, 0.97, 1)
    assert (few.near, few.near_total) == (likeness.near[:1], len(expected))


def test_few_documents_have_no_outliers_and_one_has_no_neighbours() -> None:
    rows = units(np.random.default_rng(3).normal(size=(19, 8)))
    assert outliers(compare(rows, 0.97, 9).neighbours) == []
    alone = compare(rows[:1], 0.97, 9)
    assert (alone.near, alone.near_total, len(alone.neighbours)) == ([], 0, 0)
    assert compare(rows[:2] * 0 + rows[0], 0.97, 9).near_total == 1


@pytest.mark.parametrize(
    ("folders", "root", "names", "of"),
    [
        ([], "", [], []),
        (["/srv/docs"] * 3, "/srv/docs", ["."], [0, 0, 0]),
        (["/d/a", "/d/a/deep", "/d/b", "/d"], "/d", ["a", ".", "b"], [0, 0, 2, 1]),
        # What holds most documents is divided further.
        (["/d/a/x", "/d/a/y", "/d/a/z", "/d/b"], "/d", ["a/x", "a/y", "a/z", "b"], [0, 1, 2, 3]),
        (["s3://bucket/x", "/z"], "", ["/z", "s3://bucket/x"], [1, 0]),
        (["/", "/a"], "/", [".", "a"], None),
    ],
)  # fmt: skip
def test_folders_are_those_that_tell_documents_apart(folders: list[str], root: str, names: list[str], of: list[int] | None) -> None:
    found = group(folders)
    assert [found.names[number] for number in found.of].count(OTHER) == 0
    if of is not None:
        assert (found.root, found.names, found.of) == (root, names, of)


def test_no_more_folders_than_colours_have_one_of_their_own() -> None:
    found = group([f"/d/{number % 30}/{'x' * (number % 3)}" for number in range(90)])
    assert len(found.names) == MAX_FOLDERS + 1
    assert found.names[-1] == OTHER
    assert found.of.count(MAX_FOLDERS) == 90 - 3 * MAX_FOLDERS


def test_only_equal_vectors_have_a_cosine_of_one() -> None:
    assert [written(cosine) for cosine in (1.0, 0.9999999, 0.99996, 0.9995, 0.9701)] == [
        "1.000",
        "1.000",
        "0.999",
        "0.999",
        "0.970",
    ]
    # A limit in single precision may be a little less than it was, and what reaches it is not below it.
    assert written(float(np.float32(0.95))) == "0.950"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///srv/a%20b/caf%C3%A9.md", "/srv/a b/café.md"),
        ("file:///x.md", "/x.md"),
        ("s3://shelf/a%20b/%E2%80%AEx.md", r"s3://shelf/a b/\u202ex.md"),
        ("file:///srv/caf%E9.md", r"/srv/caf\udce9.md"),
    ],
)
def test_paths_are_for_people(uri: str, path: str) -> None:
    assert shown_path(uri) == path


@pytest.fixture
def collection(data_dir: Path) -> Path:
    """A collection `documents` of 12 documents, two of which are the same bytes and two nearly, in the embedded store."""
    data_dir.mkdir()
    ledger = Ledger.open(f"sqlite:///{data_dir / 'kb.db'}")
    store = EdgeStore(data_dir / "qdrant", role="owner", reserve_bytes=0)
    store.create("documents-1", DIMENSION)
    store.set_alias("documents", "documents-1")
    ledger.collections.add(Collection("documents", "documents-1", "m", "", DIMENSION, "1", "", 0.0))
    staged = {}
    for number in range(12):
        uri = f"file:///srv/{'ab'[number % 2]}/{number}.md"
        staged[document_id("documents", uri)] = StagedFile(SourceFile(uri, None, 10, 1), f"{min(number, 10):064x}", "")
    ledger.intake.record_staged("documents", 1, staged)
    claim = ledger.work.claim(Stage.PARSE, list(staged), "w")
    titles = [f"{HOSTILE} {number}" if number else "" for number in range(12)]
    ledger.work.parsed(claim, [ParsedResult(key, title, "text/plain", "p") for key, title in zip(staged, titles, strict=True)])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, list(staged), "w")
    for number, (key, file) in enumerate(staged.items()):
        first = 15 if number == 6 else 3 * min(number, 10)  # 6 says what 5 says
        store.upsert("documents-1", made_points(DocumentInfo(key, file.source.uri), 3, first=first))
    ledger.work.indexed(claim, [IndexedResult(d.id, d.content_hash, "p", "e", 3, 3) for d in claim.documents])
    store.close()
    ledger.close()
    return data_dir


@pytest.fixture
def drawn(collection: Path) -> EmbeddingMap:
    ledger, store = Ledger.open(f"sqlite:///{collection / 'kb.db'}"), EdgeStore(collection / "qdrant")
    found = draw(ledger, store, "documents", "documents-1", 0.97)
    thinned = draw(ledger, store, "documents", "documents-1", 0.97, most_points=3)
    store.close()
    ledger.close()
    assert thinned.findings == replace(found.findings, drawn=len(thinned.places))
    names = {int(Path(place.document.path).stem) for place in thinned.places}
    assert {5, 6, 10, 11} <= names  # what is listed, and every fourth
    assert 4 < len(names) <= 7
    return found


def test_a_collection_is_drawn(drawn: EmbeddingMap) -> None:
    found = drawn.findings
    assert (found.documents, found.chunks, found.drawn, len(drawn.places)) == (12, 36, 12, 12)
    by_name = {Path(place.document.path).name: place for place in drawn.places}
    assert by_name["0.md"].document.title == "0.md"  # its own, as the document has none
    assert by_name["1.md"].document.title.startswith("Title </script>")
    assert (found.root, [(folder.name, folder.documents) for folder in found.folders]) == ("/srv", [("a", 6), ("b", 6)])
    assert by_name["3.md"].folder == 1
    (copies,) = found.copies
    assert {Path(document.path).name for document in copies.documents} == {"10.md", "11.md"}
    assert by_name["10.md"].x == pytest.approx(by_name["11.md"].x, abs=1e-6)
    (near,) = found.near
    assert {Path(near.first.path).name, Path(near.second.path).name} == {"5.md", "6.md"}
    assert near.cosine == pytest.approx(1)


def test_the_page_holds_the_data_and_nothing_of_strangers(drawn: EmbeddingMap) -> None:
    text = map_page(drawn)
    assert not re.search(r"(src)\s*=|https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text)
    assert text.count("</script>") == 2
    assert "<script>alert" not in text
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    places = json.loads(data)["places"]
    assert len(places) == 12
    assert {name for name, *_ in places} >= {"0.md", visible(f"{HOSTILE} 1")}
    assert "\u2028" not in text


def test_the_tables_name_files_below_the_folder_that_holds_all(drawn: EmbeddingMap) -> None:
    (copies,) = lxml_html.fromstring(map_page(drawn)).xpath("//section[h2='Copies']")
    assert [one.text_content() for one in copies.xpath(".//a")] == ["a/10.md", "b/11.md"]
    assert copies.xpath(".//small/@title") == ["/srv/a/10.md", "/srv/b/11.md"]
    assert "relative to /srv." in map_page(drawn)
    (near,) = drawn.findings.near
    far = map_page(replace(drawn, findings=replace(drawn.findings, root="", near=[replace(near, cosine=0.9996)])))
    assert ">/srv/a/10.md</a>" in far
    assert "Paths in the tables" not in far
    assert "<td>0.999</td>" in far


def test_few_documents_are_not_said_to_be_alike(drawn: EmbeddingMap) -> None:
    few, alike = "Fewer than 20 different documents", "There are no outliers"
    found = replace(drawn.findings, documents=20)  # of which two are the same
    assert few in map_page(replace(drawn, findings=found))
    assert alike not in map_page(replace(drawn, findings=found))
    assert alike in map_page(replace(drawn, findings=replace(found, documents=21)))


def test_marks_of_direction_in_names_of_folders_are_written_out(data_dir: Path) -> None:
    data_dir.mkdir()
    ledger = Ledger.open(f"sqlite:///{data_dir / 'kb.db'}")
    store = EdgeStore(data_dir / "qdrant", role="owner", reserve_bytes=0)
    store.create("documents-1", DIMENSION)
    names = ("a/\u202egpj", "a/b")
    staged = {}
    for number, name in enumerate(names):
        uri = uri_of(Path(f"/srv/\u202e/{name}/x.md"))
        key = document_id("documents", uri)
        staged[key] = StagedFile(SourceFile(uri, None, 10, 1), f"{number:064x}", "")
        store.upsert("documents-1", made_points(DocumentInfo(key, uri), 1, first=number))
    ledger.intake.record_staged("documents", 1, staged)
    claim = ledger.work.claim(Stage.PARSE, list(staged), "w")
    ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "p") for key in staged])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, list(staged), "w")
    ledger.work.indexed(claim, [IndexedResult(d.id, d.content_hash, "p", "e", 1, 1) for d in claim.documents])
    found = draw(ledger, store, "documents", "documents-1", 0.97).findings
    store.close()
    ledger.close()
    assert (found.root, sorted(folder.name for folder in found.folders)) == (r"/srv/\u202e/a", [r"\u202egpj", "b"])


def test_the_command_says_what_it_found_and_writes_the_page(
    collection: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "map.html"
    assert run(["map", "--html", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("12 documents in 2 folders, 1 group of copies, 1 near-duplicate pair, 0 outliers\n")
    assert "copies: /srv/a/10.md = /srv/b/11.md" in out
    assert file.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.glob("*map.html*")] == ["map.html"]
    assert run(["map", "--json", "--near", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["near_cosine"] == 1
    assert run(["map", "--html", str(tmp_path / "no" / "map.html")]) == 1
    assert run(["map", "-c", "nothing"]) == 1


def test_an_empty_collection_has_a_page_too(drawn: EmbeddingMap) -> None:
    nothing = replace(
        drawn.findings, documents=0, chunks=0, root="", folders=[], copies=[], copies_total=0, near=[], near_total=0, drawn=0
    )
    text = map_page(EmbeddingMap(nothing, []))
    assert "This collection contains no documents yet." in text
    assert '"places":[]' in text
