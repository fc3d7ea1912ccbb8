"""EPUB, LaTeX, Org and AsciiDoc: pandoc converts them to HTML, and the HTML walk produces the elements."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse.decode import read_text
from pipeline.parse.html import html_parsed
from pipeline.parse.parsed import Parsed
from pipeline.parse.plain import parse_plain
from pipeline.types import LossKind, Reason

#: Maximum heap of pandoc, in its runtime's notation; the memory limit of this process applies to it, too.
HEAP = "1g"
#: pandoc's exit status when that heap is full.
_HEAP_FULL = (2, 251)
_TEMPLATE = "<html><head><title>$if(title)$$title$$endif$</title></head><body>\n%s$body$\n</body></html>\n"
#: What a text format says in front of its body.
_FRONT = (
    "$if(title)$<h1>$title$</h1>$endif$\n$if(subtitle)$<p>$subtitle$</p>$endif$\n$for(author)$<p>$author$</p>$endfor$\n"
    "$if(date)$<p>$date$</p>$endif$\n$if(abstract)$<div>$abstract$</div>$endif$\n"
)


def parse_epub(path: Path, name: str) -> Parsed:
    """Elements of the book at `path`; its title comes from its metadata."""
    return _converted(path, "epub", contained=True)


def parse_latex(path: Path, name: str) -> Parsed:
    """Elements of the LaTeX document at `path`; files that it includes are not read."""
    return _of_text(path, name, "latex")


def parse_org(path: Path, name: str) -> Parsed:
    """Elements of the Org file at `path`."""
    return _of_text(path, name, "org")


def parse_asciidoc(path: Path, name: str) -> Parsed:
    """Elements of the AsciiDoc file at `path`."""
    return _of_text(path, name, "asciidoc")


def _of_text(path: Path, name: str, source: str) -> Parsed:
    """A text format, converted from UTF-8; where pandoc gives up, the text is kept as it is written."""
    with tempfile.TemporaryDirectory(prefix="text-") as folder:
        decoded = Path(folder, "source")
        decoded.write_text(read_text(path), encoding="utf-8", errors="replace")
        try:
            return _converted(decoded, source, _FRONT)
        except DocumentError as error:
            if error.reason is not Reason.CORRUPT:
                raise
            parsed = parse_plain(path, name)
            parsed.losses.add(LossKind.UNREADABLE_PART, detail=f"its structure: {error.detail}; the text is kept as it is written")
            return parsed


@cache
def pandoc_path() -> str | None:
    """The pandoc of pypandoc_binary, else the one on the path; found without running it, unlike with pypandoc."""
    found = importlib.util.find_spec("pypandoc")
    for folder in (found.submodule_search_locations or ()) if found else ():
        binary = Path(folder, "files", "pandoc")
        if binary.is_file():
            return str(binary)
    return shutil.which("pandoc")


def _converted(path: Path, source: str, front: str = "", *, contained: bool = False) -> Parsed:
    """Run pandoc in a temporary folder, in its sandbox: it reads no other file and no network. `front` precedes the body.

    `contained`: the document holds its pictures.

    It is a plain child: it inherits the limits of this process, and killing this process group kills it, too.
    """
    if (pandoc := pandoc_path()) is None:
        raise DocumentError(
            Reason.UNSUPPORTED, f"{source} needs pandoc, which is not installed: install pypandoc_binary or pandoc, then retry"
        )
    with tempfile.TemporaryDirectory(prefix="pandoc-") as folder:
        template, output, errors = Path(folder, "page.html"), Path(folder, "out.html"), Path(folder, "errors")
        template.write_text(_TEMPLATE % front, encoding="utf-8")
        command = [
            pandoc, "+RTS", f"-M{HEAP}", "-RTS", "--sandbox", "--quiet", f"--from={source}", "--to=html5", "--wrap=none",
            "--mathml", f"--template={template}", str(path.resolve()),
        ]  # fmt: skip
        environment = {"LANG": "C.UTF-8", "TMPDIR": folder, "HOME": folder}
        with output.open("wb") as out, errors.open("wb") as err:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False
            )
        message = " ".join(errors.read_text("utf-8", "replace").split())[:300]
        if done.returncode in _HEAP_FULL and ("heap" in message.lower() or done.returncode == 251):
            raise DocumentError(Reason.OUT_OF_MEMORY, f"pandoc: {message}")
        if done.returncode < 0:
            raise DocumentError(Reason.CRASHED, f"pandoc was killed by signal {-done.returncode}")
        if done.returncode:
            raise DocumentError(Reason.CORRUPT, f"pandoc: {message}")
        return html_parsed(output.read_text("utf-8", "replace"), declared_title=True, contained=contained)
