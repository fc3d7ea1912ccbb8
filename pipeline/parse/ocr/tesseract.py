"""Tesseract: a program of its own, with a data file for each language."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

from pipeline.errors import InstallationError
from pipeline.parse.ocr.lines import ReadLine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Seconds that it may take to list its languages.
LIST_S = 20.0
#: Finds columns and turned pages, and reads them.
SEGMENTATION = "1"
#: Word of its table: the level below lines.
_WORD = "5"


class Tesseract:
    """The installed program, for pages in some languages."""

    def __init__(self, languages: str) -> None:
        self._languages = languages

    def lines(self, pixels: NDArray[np.uint8], timeout_s: float) -> list[ReadLine]:
        """The lines on a page; `pixels` are rows, columns and three equal channels. Raises TimeoutError, InstallationError."""
        height, width = pixels.shape[:2]
        picture = b"P5 %d %d 255\n" % (width, height) + pixels[:, :, 0].tobytes()
        command = ["tesseract", "-", "-", "-l", self._languages, "--psm", SEGMENTATION, "tsv"]
        try:
            ended = subprocess.run(command, input=picture, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        except FileNotFoundError as error:
            raise InstallationError("tesseract is no longer installed; install it again, or set KB_OCR=never") from error
        if ended.returncode:
            said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
            raise RuntimeError(f"tesseract failed: {said[-1] if said else ended.returncode}")
        return list(_lines(ended.stdout.decode("utf-8", "replace")))


def _lines(table: str) -> Iterator[ReadLine]:
    rows = csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE)
    words = (row for row in rows if row["level"] == _WORD and (row["text"] or "").strip())

    def place(row: Mapping[str, str]) -> tuple[str, ...]:
        return row["block_num"], row["par_num"], row["line_num"]

    for _, found in groupby(words, place):
        line = list(found)
        letters = sum(len(row["text"]) for row in line)
        confidence = sum(float(row["conf"]) * len(row["text"]) for row in line) / letters / 100
        lefts, tops = [int(row["left"]) for row in line], [int(row["top"]) for row in line]
        right = max(left + int(row["width"]) for left, row in zip(lefts, line, strict=True))
        bottom = max(top + int(row["height"]) for top, row in zip(tops, line, strict=True))
        yield ReadLine(" ".join(row["text"] for row in line), max(0.0, confidence), min(lefts), min(tops), right, bottom)


@cache
def installed_languages() -> frozenset[str]:
    """Names of the languages that an installed Tesseract can read, such as eng and deu; empty without one."""
    program = shutil.which("tesseract")
    if program is None:
        return frozenset()
    try:
        said = subprocess.run([program, "--list-langs"], capture_output=True, text=True, timeout=LIST_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(line.strip() for line in said.splitlines()[1:] if line.strip())


@cache
def installed_version() -> str:
    """The version of the installed program; empty without one."""
    program = shutil.which("tesseract")
    if program is None:
        return ""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=LIST_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(said.split()[1:2])
