"""Pages as scanners make them: pictures of text."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
#: Seconds for a page on a busy machine.
PAGE_S = "240"


def page(*lines: str, size: int = 30, width: int = 900, spacing: float = 1.6) -> Image:
    """A page with these lines, in type of `size` pixels."""
    from PIL import Image, ImageDraw, ImageFont

    height = max(200, round(2 * size + len(lines) * spacing * size))
    made = Image.new("L", (width, height), 255)
    for row, line in enumerate(lines):
        ImageDraw.Draw(made).text((size, size + row * spacing * size), line, fill=15, font=ImageFont.truetype(FONT, size))
    return made


def scanned_djvu(path: Path, picture: Image) -> None:
    """A DjVu document with one page in black and white, by DjVuLibre."""
    bitmap = path.with_suffix(".pbm")
    picture.convert("1").save(bitmap)
    subprocess.run(["cjb2", str(bitmap), str(path)], check=True, timeout=60)
    bitmap.unlink()


def scanned_pdf(path: Path, pages: Sequence[Image]) -> None:
    """A PDF whose pages are pictures."""
    first, *others = (one.copy() for one in pages)
    first.save(path, "PDF", save_all=True, append_images=others, resolution=100)
