"""Which of the programs that need not be installed are here."""

from __future__ import annotations

from pipeline.parse import djvu
from pipeline.parse.legacy.libreoffice import program_folder
from pipeline.parse.ocr.options import OcrOptions
from pipeline.types import Program


def installed_programs(ocr: OcrOptions) -> frozenset[Program]:
    """The programs that can read documents here."""
    found = {Program.OCR: bool(ocr.engine), Program.LIBREOFFICE: bool(program_folder()), Program.DJVULIBRE: djvu.is_installed()}
    return frozenset(program for program, here in found.items() if here)
