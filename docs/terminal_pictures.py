"""Draws docs/pictures/load.svg and search.svg, the terminal pictures in the README, from a real load and a real search.

`python -m docs.terminal_pictures` needs the default model (extra `offline`) and the development tools, but no server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from PIL import Image, ImageDraw
from reportlab.pdfgen.canvas import Canvas
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.terminal import in_terminal

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURES = REPOSITORY / "docs" / "pictures"

#: Width of the terminal, in columns.
COLUMNS = 100

#: The question of the second picture.
QUESTION = "what can I do with a scanned document?"

#: rich's template names web fonts. A page that shows the picture must not fetch anything, so they go.
SVG_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)

#: Between two frames of a live display, rich moves the cursor up and erases lines.
NEXT_FRAME = re.compile(r"(?:\r|\x1b\[1A|\x1b\[2K)*\x1b\[2K")

#: Codes that show and hide the cursor.
CURSOR = re.compile(r"\x1b\[\?25[hl]")


def write_handbook(folder: Path) -> None:
    """The documents to load: the guides, the examples in all formats, and a scan without text."""
    shutil.copytree(REPOSITORY / "docs", folder, ignore=shutil.ignore_patterns("*.py", "pictures", "__pycache__"))
    for path in (REPOSITORY / "examples").glob("*.*"):
        if path.suffix != ".py":
            shutil.copy(path, folder)
    subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "make_documents.py"), str(folder)], check=True, capture_output=True
    )
    page = Image.new("L", (1240, 1754), "white")
    ImageDraw.Draw(page).text((100, 100), "Delivery note 4711\n\nTwo boxes of screws", fill="black", font_size=48)
    canvas = Canvas(str(folder / "delivery note.pdf"))
    canvas.drawInlineImage(page, 0, 0, 595, 842)
    canvas.save()


def shown(place: Path, *arguments: str) -> str:
    """What kb-ingest writes in a terminal, without the codes for the cursor."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KB_")}
    environment = kept | {"KB_DATA_DIR": str(place / "data"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "workers", *arguments]
    written, status = in_terminal(command, environment=environment, columns=COLUMNS, folder=place)
    if status not in (0, 3):
        raise SystemExit(f"kb-ingest {' '.join(arguments)} failed:\n{written}")
    return CURSOR.sub("", written.replace("\r\n", "\n")).replace(str(place), "/srv")  # the temporary folder has a random name


def middle(frames: list[str]) -> str:
    """The frame nearest to half of the documents among those that show speed, time left and a busy worker."""
    best, distance = "", 1.0
    for frame in frames:
        plain = Text.from_ansi(frame).plain
        found = re.search(r"embed +\S+ (\d+) of (\d+)", plain)
        if found and re.search(r"\d s left", plain) and re.search(r"[1-9]\d*%", plain) and "quarantined" in plain:
            away = abs(int(found[1]) / int(found[2]) - 0.5)
            best, distance = min((best, distance), (frame, away), key=lambda pair: pair[1])
    if not best:
        raise SystemExit("the load was over before its display showed everything: run it again")
    return best


def draw(name: str, title: str, *parts: str) -> None:
    """Write a picture of a terminal that shows the parts, one below the other."""
    console = Console(record=True, file=StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor")
    for part in parts:
        console.print(Text.from_ansi(part.strip("\n")))
    console.save_svg(str(PICTURES / f"{name}.svg"), title=title, code_format=SVG_FORMAT, unique_id=f"kb-{name}")


def main() -> None:
    """Load, search, and draw both."""
    with tempfile.TemporaryDirectory(prefix="kb-") as made:
        place = Path(made)
        write_handbook(place / "handbook")
        *frames, end = NEXT_FRAME.split(shown(place, "load", "handbook"))
        draw("load", "kb-ingest load", "\x1b[1m$ kb-ingest load handbook\x1b[0m", middle(frames), end)
        hits = shown(place, "search", QUESTION, "--limit", "2")
        draw("search", "kb-ingest search", f'\x1b[1m$ kb-ingest search "{QUESTION}" --limit 2\x1b[0m', hits)


if __name__ == "__main__":
    main()
