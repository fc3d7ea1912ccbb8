"""Pages of PDFs as pictures: what is marked, and what a hostile file can do in the process that draws it."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import DocumentError
from pipeline.parse.pdf.picture import MAX_HEIGHT, MAX_WIDTH, Pixels, page_picture, png
from pipeline.sandbox import picture
from pipeline.sandbox.confine import landlock_version
from pipeline.sandbox.picture import draw
from pipeline.types import Reason
from tests.documents import SECTION, SENTENCE, TITLE, pdf


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pdf") / "handbook.pdf"
    pdf(path)
    return path


def pixels(drawn: bytes) -> Pixels:
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def marked(path: Path, number: int, *lines: str) -> int:
    """How many pixels are marked."""
    found = pixels(page_picture(path, number, lines))
    return int((found[:, :, 2].astype(int) < found[:, :, 0].astype(int) - 50).sum())


def test_a_picture_is_what_was_drawn() -> None:
    made = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    assert (pixels(png(made)) == made).all()


def test_lines_are_marked_where_the_page_has_them(handbook: Path) -> None:
    nothing, title, both = (marked(handbook, 1, *lines) for lines in ((), (TITLE,), (TITLE, SENTENCE)))
    assert nothing == marked(handbook, 1, "these words are on no page") == marked(handbook, 1, "a", "") == 0
    assert 0 < title < both
    assert marked(handbook, 2, TITLE) == 0
    assert marked(handbook, 2, SECTION) > 0
    assert marked(handbook, 2, "Ropes of the waterproof kind are doubled.") > 0, "a word divided at the end of a line"
    assert marked(handbook, 1, f"It begins on the page before. {SENTENCE}") == marked(handbook, 1, SENTENCE), "what is on this page"


def test_rows_of_tables_are_marked(tmp_path: Path) -> None:
    from reportlab.platypus import SimpleDocTemplate, Table

    rows = [["Berth", "Fee", "Owner"], ["North 1", "17.10", "Ramona Feldt"], ["South 7", "23.40", "Jan Okker"]]
    SimpleDocTemplate(str(tmp_path / "a.pdf")).build([Table(rows)])
    assert 0 < marked(tmp_path / "a.pdf", 1, " | ".join(rows[1])) < marked(tmp_path / "a.pdf", 1, *map(" | ".join, rows))


def test_a_page_is_drawn_in_a_process_of_its_own(handbook: Path) -> None:
    assert draw(handbook, 1, [TITLE]) == page_picture(handbook, 1, [TITLE])
    with pytest.raises(DocumentError, match="page 3 cannot be drawn"):
        draw(handbook, 3, [])


def test_files_that_are_no_pdf(tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    path.write_bytes(b"%PDF-1.7\nnothing more")
    with pytest.raises(DocumentError, match="cannot be drawn"):
        draw(path, 1, [])


def test_an_enormous_page_makes_a_small_picture(tmp_path: Path) -> None:
    from reportlab.pdfgen import canvas

    path = tmp_path / "large.pdf"
    sheet = canvas.Canvas(str(path), pagesize=(200_000, 100))
    sheet.drawString(0, 0, "wide")
    sheet.showPage()
    sheet.save()
    height, width, _ = pixels(draw(path, 1, ["wide"])).shape
    assert 1 <= height <= MAX_HEIGHT
    assert width <= MAX_WIDTH


def test_a_page_that_takes_too_long(handbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "TIMEOUT_S", 0.01)
    with pytest.raises(DocumentError, match="took longer") as caught:
        draw(handbook, 1, [])
    assert caught.value.reason is Reason.TIMEOUT


#: Stands in for pdfium that a file has taken over.
TAKEN_OVER = """
import os, socket
from pathlib import Path

class PdfiumError(Exception): ...

def PdfDocument(path):
    done = []
    try:
        Path({outside!r}).write_text("written")
        done.append("wrote")
    except OSError:
        pass
    try:
        socket.socket()
        done.append("opened a socket")
    except OSError:
        pass
    done += [name for name in os.environ if name.startswith("KB_")]
    if done:
        os.abort()
    raise PdfiumError
"""


@pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")
def test_a_file_that_takes_over_the_process_gains_nothing(handbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside"
    (tmp_path / "pypdfium2").mkdir()
    (tmp_path / "pypdfium2" / "__init__.py").write_text(TAKEN_OVER.format(outside=str(outside)))
    (tmp_path / "pypdfium2" / "raw.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("KB_API_KEY", "secret")
    ended: list[int] = []
    run = subprocess.run

    def watched(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
        found: subprocess.CompletedProcess[bytes] = run(*arguments, **options)
        ended.append(found.returncode)
        return found

    monkeypatch.setattr(subprocess, "run", watched)
    with pytest.raises(DocumentError, match="cannot be drawn"):
        draw(handbook, 1, [])
    assert ended == [1], "neither wrote, nor opened a socket, nor saw a setting"
    assert not outside.exists()
