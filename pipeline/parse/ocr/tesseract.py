"""Tesseract: a program of its own, with a data file for each language."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from pipeline.errors import InstallationError
from pipeline.parse.ocr.lines import ReadLine, turned

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
        return _lines(ended.stdout.decode("utf-8", "replace"), (height, width))


def _lines(table: str, shape: tuple[int, int]) -> list[ReadLine]:
    """The lines of Tesseract's table, whose places are those of the page as it lies."""
    rows = csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE)
    words = (row for row in rows if row["level"] == _WORD and (row["text"] or "").strip())

    def line_of(row: Mapping[str, str]) -> tuple[str, ...]:
        return row["block_num"], row["par_num"], row["line_num"]

    found = [list(line) for _, line in groupby(words, line_of)]
    turn = _turn_of(found)
    return [_line(line, shape, turn) for line in found]


def _turn_of(found: Sequence[Sequence[Mapping[str, str]]]) -> tuple[bool, bool]:
    """How the page lies, by the direction in which the words of its lines follow each other."""
    across = down = 0
    for line in found:
        for word, after in pairwise(line):
            across += int(after["left"]) - int(word["left"])
            down += int(after["top"]) - int(word["top"])
    side = abs(down) > abs(across)
    return side, (down if side else across) < 0


def _line(words: Sequence[Mapping[str, str]], shape: tuple[int, int], turn: tuple[bool, bool]) -> ReadLine:
    letters = sum(len(row["text"]) for row in words)
    confidence = sum(float(row["conf"]) * len(row["text"]) for row in words) / letters / 100
    boxes = [[int(row[name]) for name in ("left", "top", "width", "height")] for row in words]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(x + width for x, _, width, _ in boxes), max(y + height for _, y, _, height in boxes)
    text = " ".join(row["text"] for row in words)
    return ReadLine(text, max(0.0, confidence), *turned((left, top, right, bottom), shape, *turn))


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
