"""Chunk files: the same chunks back, for any document, and never half of them."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.chunk.file import ChunkFileFooter, ChunkFileHeader, read_chunks, read_footer, read_header, write_chunks
from pipeline.chunk.lines import UNPACKED_BYTES
from pipeline.errors import DocumentError
from pipeline.types import Chunk, Reason, chunk_id

ONE, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
HEADER = ChunkFileHeader("text/plain", "A title")


def chunks(document: str) -> list[Chunk]:
    made = [
        Chunk("", document, 0, "first", 3, ("A", "B"), 1, 2, 0, 5),
        Chunk("", document, 1, "same", 3),
        Chunk("", document, 2, "same", 3),
        Chunk("", document, 3, "ünï😀\n", 9, ("A",)),
    ]
    seen: dict[str, int] = {}
    result = []
    for chunk in made:
        key = chunk_id(document, chunk.embed_text, seen.get(chunk.embed_text, 0))
        seen[chunk.embed_text] = seen.get(chunk.embed_text, 0) + 1
        result.append(replace(chunk, id=key))
    return result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "chunks.jsonl.gz"
    footer = write_chunks(path, HEADER, chunks(ONE))
    assert (footer.chunks, footer.tokens) == (4, 18)
    return path


def test_one_file_serves_every_document_with_these_bytes(path: Path) -> None:
    for document in (ONE, OTHER):
        header, read = read_chunks(path, document)
        assert header == read_header(path) == HEADER
        assert list(read) == chunks(document)


def test_the_footer_says_how_many_without_reading_them(path: Path) -> None:
    assert read_footer(path) == ChunkFileFooter(4, 18)


def test_the_same_chunks_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write_chunks(tmp_path / "again", HEADER, chunks(OTHER))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_files_are_gzip_in_windows_of_either_size(tmp_path: Path) -> None:
    for count in (1, 200):  # below and above what fits into the small window
        many = [replace(chunk, id="") for chunk in chunks(ONE) * count]
        path = tmp_path / f"{count}"
        write_chunks(path, HEADER, many)
        assert len(gzip.decompress(path.read_bytes()).splitlines()) == len(many) + 2
        assert [chunk.text for chunk in read_chunks(path, ONE)[1]] == [chunk.text for chunk in many]
        path.write_bytes(path.read_bytes() + b"more")
        with pytest.raises(DocumentError, match="cannot be read"):
            list(read_chunks(path, ONE)[1])


def test_files_of_the_module_gzip_are_read(path: Path) -> None:
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain, 1, mtime=0))
    assert list(read_chunks(path, ONE)[1]) == chunks(ONE)


def test_a_line_of_any_length_is_read(tmp_path: Path) -> None:
    long = replace(chunks(ONE)[0], text="word " * UNPACKED_BYTES)
    write_chunks(tmp_path / "long", HEADER, [long])
    assert [chunk.text for chunk in read_chunks(tmp_path / "long", ONE)[1]] == [long.text]


def test_a_file_cut_anywhere_is_never_taken_for_whole(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 7):
        path.write_bytes(content[:length])
        with pytest.raises(DocumentError) as caught:
            list(read_chunks(path, ONE)[1])
        assert caught.value.reason is Reason.STAGED_LOST
        with pytest.raises(DocumentError) as caught:
            read_footer(path)
        assert caught.value.reason is Reason.STAGED_LOST


def test_damage_and_absence_are_told(path: Path, tmp_path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    for wrong in (path, tmp_path / "nothing"):
        with pytest.raises(DocumentError) as caught:
            list(read_chunks(wrong, ONE)[1])
        with pytest.raises(DocumentError):
            read_footer(wrong)
        assert caught.value.reason is Reason.STAGED_LOST
