"""Metadata on its way from command line, files and documents into ledger and store; other metadata embeds nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import select

from pipeline.chunk.file import ChunkFileHeader, write_chunks
from pipeline.errors import FilterError
from pipeline.filters import Bare, FieldType, Granted
from pipeline.ledger import Ledger
from pipeline.ledger.fields import document_fields
from pipeline.ledger.generations import Collection
from pipeline.ledger.losses import told
from pipeline.ledger.work import ParsedResult
from pipeline.metadata import Given, Raw, file_times
from pipeline.sources.discover import Patterns, discover
from pipeline.sources.objects import told_time
from pipeline.staging.copies import chunks_key
from pipeline.staging.local import LocalStaging
from pipeline.steps.index import IndexStep
from pipeline.steps.load import Load, LoadCounts, Planned
from pipeline.steps.scope import Scope
from pipeline.store.edge import EdgeStore
from pipeline.types import Chunk, DocumentState, MetadataValue, RecordFields, SourceFile, Stage, chunk_id
from tests.counting_embedder import CountingEmbedder
from tests.embed_server import DIMENSION, vector

PARSE, EMBED = "f" * 16, "e" * 16


class Place:
    """A folder, and all that a load needs; each file becomes two chunks with its name and text."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder = folder / "docs"
        self.folder.mkdir()
        self.ledger = ledger
        self.staging = LocalStaging(folder / "staging")
        self.store = EdgeStore(folder / "qdrant", role="owner", reserve_bytes=0)
        self.store.create("p", DIMENSION)
        self.ledger.collections.add(Collection("docs", "p", "m", "r", DIMENSION, EMBED, "[]", 0.0))
        self.embedder = CountingEmbedder()
        self.file_times = False
        self.properties: dict[str, dict[str, str]] = {}  #: what the parser finds, by the name of the file

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.folder / f"{name}.txt").write_text(text)

    def step(self, meta: Mapping[str, str], records: RecordFields | None = None) -> Load:
        given: dict[str, Raw] = {name: Bare(value) for name, value in meta.items()}
        return Load(
            self.ledger,
            self.staging,
            "docs",
            PARSE,
            EMBED,
            max_file_bytes=1000,
            meta=given,
            records=records,
            file_times=self.file_times,
        )

    def plan(self, **meta: str) -> list[Planned]:
        return list(self.step(meta).plan(Scope([self.folder], Patterns())))

    def load(self, **meta: str) -> LoadCounts:
        """Load and index everything."""
        counts = self.step(meta).run(self.ledger.runs.start("docs"), Scope([self.folder], Patterns()), lambda _: None)
        self.work()
        return counts

    def work(self) -> None:
        self._parse()
        waiting = [one.id for one in self.ledger.browse.page("docs", state="parsed", limit=10_000)]
        if waiting:
            claim = self.ledger.work.claim(Stage.EMBED, waiting, "e")
            IndexStep(self.ledger, self.staging, self.embedder, self.store, EMBED).run(claim, "p")
            self.ledger.work.release(claim)

    def _parse(self) -> None:
        waiting = [one.id for one in self.ledger.browse.page("docs", state="pending", limit=10_000)]
        claim = self.ledger.work.claim(Stage.PARSE, waiting, "p")
        results = []
        for document in claim.documents:
            name = Path(document.uri).stem
            text = (self.folder / Path(document.uri).name).read_text()
            chunks = [Chunk(chunk_id(document.id, f"{text} {n}", 0), document.id, n, f"{text} {n}", 5) for n in range(2)]
            path = self.staging.scratch()
            header = ChunkFileHeader("text/plain", "", self.properties.get(name, {}))
            write_chunks(path, header, chunks)
            self.staging.put_chunks(chunks_key(PARSE, document.content_hash, Path(document.uri).name), path)
            results.append(ParsedResult(document.id, "", "text/plain", PARSE, 10, chunks=2, properties=header.metadata))
        self.ledger.work.parsed(claim, results)
        self.ledger.work.release(claim)

    def stored(self, name: str) -> dict[str, MetadataValue]:
        """The metadata of a document in the store, which all its points and the ledger must agree on."""
        uri = f"file://{self.folder}/{name}.txt"
        hits = self.store.search("p", vector("x"), 1000, {"uri": uri})
        (found,) = {json.dumps(dict(hit.metadata), sort_keys=True) for hit in hits}
        (listed,) = self.ledger.browse.page("docs", {"uri": uri})
        assert json.loads(found) == listed.metadata
        return json.loads(found)  # type: ignore[no-any-return]

    def names(self, *filters: str | Granted) -> str:
        """Names of the documents that pass, which store and ledger must agree on."""
        hits = self.store.search("p", vector("x"), 10_000, filters)
        listed = self.ledger.browse.page("docs", filters, limit=10_000)
        assert {hit.document_id for hit in hits} == {one.id for one in listed}
        assert sum(self.ledger.browse.count("docs", filters).values()) == len(listed)
        assert all(self.ledger.browse.get(one.id, filters) is not None for one in listed)
        return "".join(sorted(Path(one.uri).stem for one in listed))

    def left_out(self, name: str) -> list[tuple[str, str]]:
        (listed,) = self.ledger.browse.page("docs", {"uri": f"file://{self.folder}/{name}.txt"})
        return [(loss.place, loss.detail) for loss in self.ledger.losses.of(listed.id)]


@pytest.fixture
def place(tmp_path: Path, ledger: Ledger) -> Iterator[Place]:
    place = Place(tmp_path, ledger)
    yield place
    place.store.close()


@pytest.mark.parametrize("number", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_other_metadata_changes_points_and_embeds_nothing(place: Place, number: int) -> None:
    place.write(**{f"n{one}": f"text {one}" for one in range(number)})
    counts = place.load(team="law", year="2023")
    assert (counts.added, len(place.embedder.texts)) == (number, 2 * number)
    assert place.stored("n3") == {"team": "law", "year": 2023}
    assert [one.action for one in place.plan(year="2024")] == ["changed"] * number
    counts = place.load(year="2024", draft="true")
    assert (counts.changed, counts.unchanged, len(place.embedder.texts)) == (number, 0, 2 * number)
    assert place.stored("n3") == {"team": "law", "year": 2024, "draft": True}
    assert len(place.names("year = 2024 and draft = true and team = law")) > 0
    assert place.store.count("p", filters=["year = 2023"]) == 0
    assert place.store.count("p") == 2 * number
    counts = place.load()
    assert (counts.changed, counts.unchanged) == (0, number)
    assert place.load(team="").changed == number
    assert place.stored("n3") == {"year": 2024, "draft": True}
    assert len(place.embedder.texts) == 2 * number


NEW_YEAR = 1704067200  # 2024-01-01 in UTC


def test_the_times_of_files_are_metadata_that_can_be_filtered_by(place: Place) -> None:
    place.file_times = True
    place.write(old="once", new="now")
    os.utime(place.folder / "old.txt", (NEW_YEAR, NEW_YEAR + 0.9))
    os.utime(place.folder / "new.txt", (0, NEW_YEAR + 366 * 86400))
    place.load()
    assert place.stored("old")["modified"] == "2024-01-01T00:00:00Z"
    assert place.names("modified < 2025-01-01") == "old"
    assert place.names("modified >= 2025-01-01") == "new"
    assert place.load().unchanged == 2


def test_a_file_that_was_only_touched_is_not_embedded_again(place: Place) -> None:
    place.file_times = True
    place.write(a="text")
    os.utime(place.folder / "a.txt", (NEW_YEAR, NEW_YEAR))
    place.load()
    embedded = len(place.embedder.texts)
    os.utime(place.folder / "a.txt", (NEW_YEAR, NEW_YEAR + 60))
    counts = place.load()
    assert (counts.changed, counts.unchanged, len(place.embedder.texts)) == (1, 0, embedded)
    assert place.stored("a")["modified"] == "2024-01-01T00:01:00Z"
    os.utime(place.folder / "a.txt", (NEW_YEAR, NEW_YEAR + 60.5))
    assert place.load().unchanged == 1, "less than a second is no other time"
    place.file_times = False
    place.load()
    assert "modified" not in place.stored("a")
    assert len(place.embedder.texts) == embedded


def test_times_that_a_document_or_a_load_names_come_before_those_of_its_file(place: Place) -> None:
    place.file_times = True
    place.write(own="text", meta="other")
    place.properties["own"] = {"modified": "2001-02-03", "created": "2000-01-01"}
    (place.folder / "meta.txt.meta.json").write_text('{"modified": "2002-02-02"}')
    place.load()
    assert (place.stored("own")["modified"], place.stored("own")["created"]) == ("2001-02-03T00:00:00Z", "2000-01-01T00:00:00Z")
    assert place.stored("meta")["modified"] == "2002-02-02T00:00:00Z"
    place.load(modified="2003-03-03")
    assert {place.stored(name)["modified"] for name in ("own", "meta")} == {"2003-03-03T00:00:00Z"}


def test_times_of_files_and_objects_and_of_records_none(place: Place) -> None:
    place.write(a="text")
    (found,) = discover([place.folder], Patterns())
    assert isinstance(found, SourceFile)
    assert found.modified == (place.folder / "a.txt").stat().st_mtime
    assert file_times(SourceFile("u", None, 1, 1, modified=NEW_YEAR, created=NEW_YEAR - 1)) == {
        "created": "2023-12-31T23:59:59Z",
        "modified": "2024-01-01T00:00:00Z",
    }
    assert file_times(SourceFile("u", None, 1, 1, modified=1e30)) == {}
    assert told_time({"LastModified": "2024-01-01T00:00:00+00:00"}) == NEW_YEAR
    assert told_time({"ETag": "x"}) is None
    place.file_times = True
    rows = SourceFile("file:///rows.csv", None, 10, 1, modified=NEW_YEAR)
    assert Given.read(place.step({})._given(rows, None)).times == {"modified": "2024-01-01T00:00:00Z"}
    assert Given.read(place.step({}, RecordFields())._given(rows, None)).times == {}


def test_facets_count_documents_by_field_and_value(place: Place) -> None:
    place.write(a="one", b="two", c="three", d="four")
    fields = {
        "a": {"team": ["law", "board"], "year": 2020, "price": 1.5, "draft": True, "due": "2024-05-31"},
        "b": {"team": "law", "year": 2024, "draft": False, "due": "1969-01-01T12:00:00Z"},
        "c": {"team": "sales", "year": 2020},
    }
    for name, one in fields.items():
        (place.folder / f"{name}.txt.meta.json").write_text(json.dumps(one))
    place.load()
    facets = place.ledger.facets
    assert [(one.name, one.type, one.documents) for one in facets.fields("docs")] == [
        ("draft", "bool", 2), ("due", "datetime", 2), ("price", "float", 1), ("team", "keyword", 3), ("year", "integer", 3),
        ("folder", "keyword", 4), ("media_type", "keyword", 4),
    ]  # fmt: skip

    assert all(facets.has("docs", one.name) for one in facets.fields("docs"))
    assert not facets.has("docs", "colour")
    assert facets.has("docs", "price", ["team = law"])
    assert not facets.has("docs", "price", ["team = sales"])
    assert not facets.has("docs", "folder", ["team = nobody"])

    def counted(field: str, *filters: str, limit: int = 20) -> dict[object, int]:
        return {one.value: one.documents for one in facets.values("docs", field, filters, limit).values}

    assert counted("team") == {"law": 2, "board": 1, "sales": 1}
    assert counted("team", "year = 2020") == {"law": 1, "board": 1, "sales": 1}
    assert counted("team", "year = 2021") == {}
    assert counted("draft") == {True: 1, False: 1}
    assert counted("year") == {2020: 2, 2024: 1}
    assert counted("price") == {1.5: 1}
    assert counted("due") == {"2024-05-31T00:00:00Z": 1, "1969-01-01T12:00:00Z": 1}
    assert counted("folder") == {str(place.folder): 4}
    assert counted("media_type", "team exists") == {"text/plain": 3}
    found = facets.values("docs", "team", limit=1)
    assert ([one.value for one in found.values], found.distinct, found.least) == (["law"], 3, None)
    dates = facets.values("docs", "due")
    assert (dates.least, dates.greatest) == ("1969-01-01T12:00:00Z", "2024-05-31T00:00:00Z")
    with pytest.raises(FilterError, match="no field 'colour' whose values can be listed; use one of draft, due, folder, "):
        facets.values("docs", "colour")
    (place.folder / "c.txt").unlink()
    place.write(a="changed")  # waits for a worker; searches still find the old version
    place.step({}).run(place.ledger.runs.start("docs"), Scope([place.folder], Patterns()), lambda _: None)
    assert counted("year") == {2020: 2, 2024: 1}


def test_a_file_beside_the_document_and_a_table(place: Place) -> None:
    place.write(a="one", b="two", c="three")
    table = place.folder / "metadata.csv"
    table.write_text('\ufefffile,Year,Due Date,team,code\na.txt,2020,2024-05-31,"law, sales",007\nb.txt,2021,,,\n')
    sidecar = place.folder / "a.txt.meta.json"
    sidecar.write_text(json.dumps({"year": 2022, "tags": ["x", "y"], "price": 1.5, "draft": False, "note": None}))
    (place.folder / "gone.txt.meta.json").write_text('{"year": 1}')
    counts = place.load()
    assert counts.added == 4, "a file without its document is an ordinary one; the others are none"
    assert place.stored("a") == {
        "year": 2022,
        "due_date": "2024-05-31T00:00:00Z",
        "team": "law, sales",
        "code": "007",
        "tags": ["x", "y"],
        "price": 1.5,
        "draft": False,
    }
    assert place.stored("b") == {"year": 2021}
    assert place.stored("c") == {}
    assert place.load(year="1999").changed == 4
    assert place.stored("a")["year"] == place.stored("c")["year"] == 1999
    assert place.names("year = 1999") == "abcgone.txt.meta"
    sidecar.unlink()
    table.write_text("file,year\nc.txt,7\n")
    embedded = len(place.embedder.texts)
    assert place.load(year="").changed == 4
    assert (place.stored("a"), place.stored("b"), place.stored("c")) == ({}, {}, {"year": 7})
    assert len(place.embedder.texts) == embedded


def test_files_beside_documents_that_cannot_be_read_are_named(place: Place) -> None:
    place.write(a="one", b="two")
    (place.folder / "a.txt.meta.json").write_text('{"year": 1, "deep": {"x": 1}, "uri": "x", "1st": 2, "ok": true')
    place.load()
    assert place.stored("a") == {}
    ((where, why),) = place.left_out("a")
    assert where == ""
    assert why.startswith("a.txt.meta.json: cannot be read:")
    (place.folder / "a.txt.meta.json").write_text('{"year": 1, "deep": {"x": 1}, "uri": "x", "1st": 2, "ok": true}')
    place.load()
    assert place.stored("a") == {"year": 1, "ok": True}
    assert [why.split(": ", 2)[1:] for _, why in place.left_out("a")] == [
        ["deep", "only texts, numbers, truth values and lists of them can be stored"],
        ["uri", "the name is taken by kb-ingest"],
        ["1st", "a name has up to 64 letters, digits, _ and -, and begins with a letter"],
    ]
    (place.folder / "a.txt.meta.json").write_text("[]")
    (place.folder / "metadata.csv").write_bytes(b"file,x\n\xff\xfe,\n")
    place.load()
    assert sorted(why for _, why in place.left_out("a")) == [
        "a.txt.meta.json: is not one JSON object",
        "metadata.csv: is not UTF-8",
    ]
    assert [why for _, why in place.left_out("b")] == ["metadata.csv: is not UTF-8"]
    assert told({"metadata": 2}) == "2 metadata values left out"


def test_a_csv_that_is_no_table_is_a_document(place: Place) -> None:
    place.write(a="one")
    (place.folder / "metadata.txt").write_text("plain")
    (place.folder / "metadata.csv").write_text("city,people\nParis,2\n")
    assert {Path(one.uri).name for one in place.plan()} == {"a.txt", "metadata.txt", "metadata.csv"}


def test_the_order_of_sources_and_values_that_do_not_fit(place: Place) -> None:
    place.write(a="one")
    place.properties = {
        "a": {
            "author": "Ada",
            "title": "A title",
            "created": "2024-01-02",
            "version": "1",
            "tags": "[x, 'y z']",
            "status": "final",
        },
        "b": {"author": "7", "created": "last week", "version": "1.0.1", "status": "draft"},
    }
    place.load(status="kept")
    place.write(b="two")
    place.load(status="kept")
    assert place.stored("a") == {
        "author": "Ada",
        "created": "2024-01-02T00:00:00Z",
        "version": 1,
        "tags": ["x", "y z"],
        "status": "kept",
    }
    assert place.stored("b") == {"author": "7", "status": "kept"}
    assert place.left_out("b") == [
        ("created", "the field is datetime in this collection, and 'last week' is not"),
        ("version", "the field is integer in this collection, and '1.0.1' is not"),
    ]
    assert (
        place.ledger.fields.types("docs")
        == place.store.fields("p")
        == {
            "author": FieldType.KEYWORD,
            "created": FieldType.DATETIME,
            "status": FieldType.KEYWORD,
            "tags": FieldType.KEYWORD,
            "version": FieldType.INTEGER,
        }
    )
    assert place.ledger.losses.summary(collection="docs").kinds == {"metadata": 2}
    place.load(version="2")
    assert place.left_out("b") == [("created", "the field is datetime in this collection, and 'last week' is not")]


def test_ledger_and_store_answer_filters_alike(place: Place) -> None:
    place.write(a="one", b="two", c="three", d="four")
    rows = [
        {"year": 2019, "team": ["law", "Sales"], "draft": True, "due": "2024-05-31T10:00:00.25+02:00", "price": 0.5},
        {"year": -7, "team": "lawn", "draft": False, "due": "1969-12-31", "price": 2.0},
        {"team": "a%_b", "price": -1.25},
        {},
    ]
    for name, row in zip("abcd", rows, strict=True):
        (place.folder / f"{name}.txt.meta.json").write_text(json.dumps(row))
    place.load()
    for wanted, expected in {
        "year >= 2019": "a",
        "year < 2019": "b",
        "year != 2019": "bcd",
        "year in (2019, -7)": "ab",
        "year missing": "cd",
        "team = law": "a",
        "team = sales": "",
        "team ~ law*": "ab",
        "team ~ 'a%*'": "c",
        "team ~ *": "abc",
        "team exists": "abc",
        "not team ~ law*": "cd",
        "team not in (law, lawn)": "cd",
        "draft = true": "a",
        "draft != true": "bcd",
        "due = 2024-05-31T08:00:00.250Z": "a",
        "due < 1970-01-01": "b",
        "due exists and due > 2024-01-01": "a",
        "price = 2": "b",
        "price <= 0.5": "ac",
        "price > -1.25 and not draft = true": "b",
        "folder ~ /* and year > 0": "a",
    }.items():
        assert place.names(wanted) == expected, wanted
    for wanted in ("colour = red", "year = x"):
        with pytest.raises(FilterError):
            place.ledger.browse.page("docs", [wanted])
        with pytest.raises(FilterError):
            place.store.count("p", filters=[wanted])


def test_a_token_s_filter_holds_whatever_the_fields(place: Place) -> None:
    place.write(a="one", b="two")
    (place.folder / "a.txt.meta.json").write_text('{"team": "law", "year": 2020}')
    place.load()
    assert place.names(Granted("team = law")) == "a"
    assert place.names(Granted("not team = law")) == "b"
    assert place.names(Granted("colour = red")) == place.names(Granted("colour exists")) == ""
    assert place.names(Granted("colour missing")) == "ab"
    assert place.names(Granted("year = soon")) == place.names(Granted("not year = soon")) == ""
    assert place.names(Granted("year = soon or team = law")) == "", "nothing passes a filter that does not fit"
    assert place.names(Granted(("folder", f"{place.folder}*")), "year = 2020") == "a"


def test_metadata_given_while_a_worker_holds_the_document(place: Place) -> None:
    place.write(a="one")
    place.load(team="law")
    place.step({"team": "sales"}).run(place.ledger.runs.start("docs"), Scope([place.folder]), lambda _: None)
    (waiting,) = place.ledger.browse.page("docs", state="parsed")
    claim = place.ledger.work.claim(Stage.EMBED, [waiting.id], "e")
    place.step({"team": "late"}).run(place.ledger.runs.start("docs"), Scope([place.folder]), lambda _: None)
    IndexStep(place.ledger, place.staging, place.embedder, place.store, EMBED).run(claim, "p")
    place.ledger.work.release(claim)
    place.work()
    assert place.stored("a") == {"team": "late"}
    (listed,) = place.ledger.browse.page("docs")
    assert listed.state == DocumentState.INDEXED


def test_a_new_version_keeps_what_was_given_and_a_forgotten_document_nothing(place: Place) -> None:
    place.write(a="one")
    place.load(team="law")
    place.write(a="another text")
    assert place.load().changed == 1
    assert place.stored("a") == {"team": "law"}
    (listed,) = place.ledger.browse.page("docs")
    place.ledger.removal.mark("docs", [listed.id])
    with place.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM documents")
        assert connection.execute(select(document_fields)).all() == []
