"""EPUB and LaTeX through pandoc: its sandbox, its folder and its failures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from pipeline.errors import DocumentError
from pipeline.parse import kinds, pandoc, parse
from pipeline.types import Reason
from tests import documents as d


def test_book_title_comes_from_its_metadata(tmp_path: Path) -> None:
    assert parse(d.write(tmp_path, "epub"), "a.epub", kinds.EPUB).title == f"{d.TITLE} (book)"


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    assert list(parse(d.write(tmp_path, "epub"), "a.epub", kinds.EPUB).elements)
    assert not list(private.iterdir())


def test_the_sandbox_reads_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("top-secret words")
    path = tmp_path / "a.tex"
    path.write_text("\\documentclass{article}\\begin{document}seen\n\n\\input{" + str(secret) + "}\n\nend\\end{document}")
    found = " ".join(e.text for e in parse(path, "a.tex", kinds.LATEX).elements)
    assert "seen" in found
    assert "top-secret" not in found


def test_damaged_files_are_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "-rf"
    path.write_bytes(d.zip_of({"mimetype": kinds.EPUB.encode()}))
    with pytest.raises(DocumentError) as caught:
        list(parse(path, "-rf", kinds.EPUB).elements)
    assert caught.value.reason is Reason.CORRUPT


def test_without_pandoc_these_formats_are_unsupported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pandoc, "pandoc_path", lambda: None)
    with pytest.raises(DocumentError) as caught:
        parse(d.write(tmp_path, "epub"), "a.epub", kinds.EPUB)
    assert caught.value.reason is Reason.UNSUPPORTED
