"""Old office files and DjVu documents, written by the programs that their users have."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.parse.legacy.libreoffice import program_folder

needs_libreoffice = pytest.mark.skipif(
    not program_folder() and "CI" not in os.environ, reason="needs Debian's libreoffice-{writer,calc,impress,math}"
)
needs_djvulibre = pytest.mark.skipif(shutil.which("cjb2") is None and "CI" not in os.environ, reason="needs Debian's djvulibre-bin")


def saved_as(source: Path, form: str) -> Path:
    """The document `source` as LibreOffice saves it in another format, beside it."""
    profile = (source.parent / "profile").as_uri()
    command = ["soffice", "--headless", f"-env:UserInstallation={profile}", "--convert-to", form, "--outdir", str(source.parent)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=120)
    return source.with_suffix(f".{form}")


def djvu(path: Path, *pages: tuple[str, ...]) -> None:
    """A scan of pages, each with a layer of text of these paragraphs; with none where there are none."""
    bitmap = path.with_suffix(".pbm")
    bitmap.write_bytes(b"P4 200 100\n" + bytes(25 * 100))
    parts = [path.with_name(f"{path.stem}-{number}.part") for number in range(len(pages))]
    for part, paragraphs in zip(parts, pages, strict=True):
        subprocess.run(["cjb2", str(bitmap), str(part)], check=True, timeout=60)
        lines = "".join(
            f"(para 0 0 200 50 {''.join(f'(line 0 0 200 9 {_quoted(line)})' for line in paragraph.splitlines())})"
            for paragraph in paragraphs
        )
        if lines:
            layer = path.with_suffix(".layer")
            layer.write_text(f"(page 0 0 200 100 {lines})")
            subprocess.run(["djvused", str(part), "-e", f"select 1; set-txt {layer}; save"], check=True, timeout=60)
            layer.unlink()
    subprocess.run(["djvm", "-c", str(path), *map(str, parts)], check=True, timeout=60)
    for made in (bitmap, *parts):
        made.unlink()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def xls(path: Path) -> None:
    """A workbook with formats, a merged cell and a hidden sheet."""
    import datetime

    import xlwt

    def shown_as(code: str) -> xlwt.XFStyle:
        return xlwt.easyxf(num_format_str=code)

    book = xlwt.Workbook()
    fees = book.add_sheet("Fees")
    for column, name in enumerate(("Berth", "Fee", "Share", "Since", "Free")):
        fees.write(0, column, name)
    fees.write_merge(1, 2, 0, 0, "North")
    for number in (1, 2):
        fees.write(number, 1, 1234.5 * number, shown_as('#,##0.00 "EUR"'))
        fees.write(number, 2, 0.125 * number, shown_as("0.0%"))
        fees.write(number, 3, datetime.date(2024, 6, 2 + number), shown_as("D.M.YYYY"))
        fees.write(number, 4, number == 1)
    old = book.add_sheet("Old fees")
    old.write(0, 0, "secret")
    old.visibility = 1
    book.save(str(path))
