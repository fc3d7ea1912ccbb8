"""Images as documents: the text in them, read by OCR; a TIFF may have many pages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DocumentError
from pipeline.parse.ocr.scans import Scans
from pipeline.parse.parsed import Losses, Parsed, Share
from pipeline.text import plural
from pipeline.types import Element, LossKind, Reason

if TYPE_CHECKING:
    from PIL.Image import Image

#: Maximum bytes of an image in memory, before it is made smaller: 20,000 x 20,000 shades of grey take 400 MB, colours four times
#: as much.
MAX_DECODED_BYTES = 1_300_000_000
#: Maximum pages of an image.
MAX_PAGES = 5000
#: Bytes of a pixel in memory; Pillow keeps three colours in four bytes.
_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "I;16": 2}


def parse_image(path: Path, name: str, scans: Scans) -> Parsed:
    """Paragraphs of the text in the image at `path`, with their pages. Raises DocumentError: CORRUPT, EMPTY_TEXT."""
    share, losses = Share(), Losses()
    return Parsed("", _elements(path, scans, share, losses), share, losses)


def _elements(path: Path, scans: Scans, share: Share, losses: Losses) -> Iterator[Element]:
    import PIL.Image

    PIL.Image.MAX_IMAGE_PIXELS = None  # the limit here is MAX_DECODED_BYTES, in this process for one document
    try:
        image: Image = PIL.Image.open(path, formats=("PNG", "JPEG", "TIFF", "WEBP"))
    except (PIL.UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DocumentError(Reason.CORRUPT, f"an image that cannot be opened ({type(error).__name__})") from error
    with image:
        # Frames of PNG and WebP are a film, of which the first one is a page.
        count = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
        some = False
        for index in range(min(count, MAX_PAGES)):
            share.count(index, count)
            for element in scans.read(partial(_drawn, image, index), index + 1, losses) or ():
                some = True
                yield element
        if count > MAX_PAGES:
            losses.add(LossKind.CUT_TEXT, f"page {MAX_PAGES + 1}", f"{count - MAX_PAGES} further pages", count - MAX_PAGES)
    if not some:
        why = losses.told_of(LossKind.PAGE_WITHOUT_TEXT, LossKind.LOW_CONFIDENCE)
        raise DocumentError(Reason.EMPTY_TEXT, f"no text on {plural(count, 'page')} of an image{'; ' if why else ''}{why}")


def _drawn(image: Image, index: int, most: int) -> Image:
    """A page of an image, with at most `most` pixels, as its camera was held. Raises ValueError for one that is too large."""
    from PIL import ImageOps

    if index:
        image.seek(index)
    width, height = image.size
    if image.format == "JPEG":  # decoded at a fraction of its size
        factor = max(1.0, (width * height / most) ** 0.5)
        image.draft("L", (round(width / factor), round(height / factor)))
    width, height = image.size
    if width * height * _BYTES.get(image.mode, 4) > MAX_DECODED_BYTES:
        raise ValueError(f"an image of {width} x {height} pixels is too large")
    shrink = int(-(-((width * height / most) ** 0.5) // 1))
    page = image.reduce(shrink) if shrink > 1 and image.mode not in ("P", "1") else image
    if page.mode in ("RGBA", "LA", "PA") or "transparency" in page.info:
        page = _on_white(page)
    page = _as_grey(page)
    if page.width * page.height > most:
        page = page.reduce(shrink)
    return ImageOps.exif_transpose(page)


def _on_white(page: Image) -> Image:
    import PIL.Image

    clear = page.convert("RGBA")
    paper = PIL.Image.new("RGBA", clear.size, "white")
    paper.alpha_composite(clear)
    return paper


def _as_grey(page: Image) -> Image:
    """`page` in shades of grey; 16 bits are scaled, where Pillow would cut them."""
    if page.mode.startswith("I"):
        return page.point(lambda value: value / 256).convert("L")
    return page.convert("L")
