"""How much of a document's text comes out: words, order, table cells and headings against sources with known text.

    python -m benchmarks.documents DOCLING [--engine kb-ingest --engine markitdown ...] [--readers PYTHON]

DOCLING is a checkout of docling's public repository, whose tests/data holds documents beside reviewed Markdown. Where markitdown,
unstructured and striprtf are installed, they read the same files; PYTHON has readers of PDFs (`benchmarks.readers`). LibreOffice,
where it is installed, writes docling's files in other formats; what it leaves out of them counts against all readers. Precision is
of words too: what is not in the reviewed text counts against it, although some of it, such as comments and the values of charts,
is text of the document.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import importlib.util
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pypdfium2

from benchmarks.readers import READERS
from benchmarks.report import RESULTS, machine, save, table

#: Folders of docling's tests/data whose reviewed text is about words; the other ones need text recognition.
TEXTS = ("docx", "pptx", "xlsx", "html", "md", "csv", "odf", "epub", "email", "asciidoc", "latex", "jats", "uspto", "webvtt", "pdf")
#: Formats that LibreOffice writes from docling's files: from which kinds, and its filters that read those as documents.
WRITTEN = {
    "rtf": {"docx": "", "html": "--infilter=HTML (StarWriter)"},
    "odt": {"docx": ""},
    "odp": {"pptx": ""},
    "ods": {"xlsx": ""},
    "doc": {"docx": ""},
    "ppt": {"pptx": ""},
    "xls": {"xlsx": ""},
}
KINDS = (*TEXTS, *WRITTEN)
#: Names of LibreOffice's filters for formats that have several.
_FILTERS = {"rtf": "rtf:Rich Text Format"}

_WORD = re.compile(r"\w+")
_RULE = re.compile(r"\|?(?:\s*:?-+:?\s*\|)+\s*:?-*:?\s*$")
_PICTURE = re.compile(r"<!--.*?-->|!\[[^\]]*\]\([^)]*\)", re.S)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass
class Text:
    """What is compared: the words in their order, the cells of tables, and the headings."""

    words: list[str] = field(default_factory=list)
    cells: Counter[str] = field(default_factory=Counter)
    headings: Counter[str] = field(default_factory=Counter)


def of_markdown(source: str) -> Text:
    """The text of a Markdown file, by its lines."""
    found = Text()
    for raw in _PICTURE.sub(" ", source).split("\n"):
        line = _plain(raw)
        found.words += _words(line)
        stripped = raw.strip()
        if stripped.startswith("|") and not _RULE.match(stripped):
            cells = [" ".join(_words(_plain(cell))) for cell in stripped.strip("|").split("|")]
            found.cells.update(filter(None, cells))
        elif heading := re.match(r"#{1,6}\s+(.*)", stripped):
            found.headings[" ".join(_words(_plain(heading.group(1))))] += 1
    return found


def _plain(text: str) -> str:
    return html.unescape(_LINK.sub(r"\1", text)).replace("\\_", "_").replace("**", "").replace("`", "")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower().replace("_", " "))


def ours(path: Path) -> Text:
    """What kb-ingest reads."""
    from pipeline.parse import parse
    from pipeline.parse.gate import Limits, inspect
    from pipeline.types import ElementKind

    found, header = Text(), ""
    for element in parse(path, path.name, inspect(path, path.name, Limits())).elements:
        if element.header and element.header != header:
            found.words += _words(element.header)
            found.cells.update(" ".join(_words(cell)) for cell in element.header.split(" | ") if _words(cell))
        header = element.header
        found.words += _words(element.text)
        if element.kind is ElementKind.TABLE_ROW:
            found.cells.update(" ".join(_words(cell)) for cell in element.text.split(" | ") if _words(cell))
        elif element.kind is ElementKind.HEADING:
            found.headings[" ".join(_words(element.text))] += 1
    return found


def markitdown(path: Path) -> Text:
    """What markitdown reads."""
    from markitdown import MarkItDown

    return of_markdown(MarkItDown().convert(str(path)).text_content)


def unstructured(path: Path) -> Text:
    """What unstructured reads, without models and without a download."""
    from pipeline.parse.offline import make_offline

    make_offline()
    from unstructured.partition.auto import partition

    found = Text()
    for element in partition(str(path), strategy="fast", languages=[""]):
        found.words += _words(element.text)
        if element.category == "Title":
            found.headings[" ".join(_words(element.text))] += 1
        elif element.category == "Table" and element.metadata.text_as_html:
            for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", element.metadata.text_as_html, re.S):
                if words := _words(html.unescape(re.sub(r"<[^>]*>", " ", cell))):
                    found.cells[" ".join(words)] += 1
    return found


def striprtf(path: Path) -> Text:
    """What striprtf reads, which knows no structure."""
    from striprtf.striprtf import rtf_to_text

    return Text(_words(rtf_to_text(path.read_text("latin-1"), errors="replace")))


ENGINES: dict[str, Callable[[Path], Text]] = {
    "kb-ingest": ours,
    "markitdown": markitdown,
    "unstructured": unstructured,
    "striprtf": striprtf,
}


class Reader:
    """A reader of PDFs in an environment of its own; its process ends with this one."""

    def __init__(self, python: Path, name: str) -> None:
        command = [str(python), "-m", "benchmarks.readers", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds = 0.0  #: of processor time for the last file

    def __call__(self, path: Path) -> Text:
        """What it reads. Raises RuntimeError with its error."""
        asked, answers = self._process.stdin, self._process.stdout
        if asked is None or answers is None:
            raise RuntimeError("has no pipes")
        asked.write(f"{path.absolute()}\n")
        asked.flush()
        answer = json.loads(answers.readline())
        self.seconds = float(answer["seconds"])
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return of_markdown(answer["text"])


@dataclass
class Scores:
    """Sums over the files of one kind."""

    files: int = 0
    failed: int = 0
    pages: int = 0  #: of PDFs
    processor_s: float = 0.0
    shares: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, truth: Text, found: Text) -> None:
        """Add a file's shares; a file without cells or headings says nothing about them."""
        for name, wanted, got in (
            ("recall", Counter(truth.words), Counter(found.words)),
            ("precision", Counter(found.words), Counter(truth.words)),
            ("trigrams", _trigrams(truth.words), _trigrams(found.words)),
            ("cells", truth.cells, found.cells),
            ("headings", truth.headings, found.headings),
        ):
            if total := wanted.total():
                self.shares.setdefault(name, []).append((wanted & got).total() / total)

    def mean(self, name: str) -> float | None:
        """The mean share over the files."""
        found = self.shares.get(name)
        return sum(found) / len(found) if found else None


def _trigrams(words: list[str]) -> Counter[str]:
    return Counter(" ".join(words[at : at + 3]) for at in range(len(words) - 2))


def pairs(folder: Path, kind: str) -> Iterator[tuple[Path, Path]]:
    """Documents of a kind with their reviewed Markdown."""
    data = folder / "tests" / "data" / kind
    for source in sorted(path for path in (data / "sources").rglob("*") if path.is_file()):  # LaTeX in folders
        names = (f"{source.name}.md", f"{source.stem}.md", f"{source.parent.name}_{source.name}.md")
        truth = next((path for name in names if (path := data / "groundtruth" / name).is_file()), None)
        if truth is not None and (kind == "pdf" or source.suffix != ".pdf"):  # some documents lie there as PDF, too
            yield source, truth


def written_pairs(folder: Path, written: Path, form: str) -> Iterator[tuple[Path, Path]]:
    """Files that LibreOffice writes into `written`, with the reviewed Markdown of what they are made of; none without it."""
    if (program := shutil.which("soffice")) is None:
        print(f"{form}: left out, because soffice (LibreOffice) is not on the path")
        return
    for kind, reading in WRITTEN[form].items():
        found = [(source, truth) for source, truth in pairs(folder, kind) if source.suffix == f".{kind}"]
        command = [program, "--headless", f"-env:UserInstallation=file://{written}/profile", *filter(None, [reading])]
        command += ["--convert-to", _FILTERS.get(form, form), "--outdir", str(written / kind)]
        subprocess.run([*command, *(str(source) for source, _ in found)], check=True, stdout=subprocess.DEVNULL)
        for source, truth in found:
            if (made := written / kind / f"{source.stem}.{form}").is_file():
                yield made, truth


def main() -> None:
    """Measure, print and save."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("docling", type=Path, help="checkout of docling's repository")
    arguments.add_argument("--engine", action="append", choices=ENGINES, help="engines to compare; default: all that are installed")
    arguments.add_argument("--kind", action="append", choices=KINDS, help="kinds of documents; default: all")
    arguments.add_argument("--readers", type=Path, help="a Python that has other readers of PDFs, which are compared, too")
    arguments.add_argument("--files", action="store_true", help="print each file's shares, too")
    chosen = arguments.parse_args()
    names = chosen.engine or [n for n in ENGINES if n == "kb-ingest" or importlib.util.find_spec(n)]
    rows = []
    with tempfile.TemporaryDirectory(prefix="documents-") as written:
        for kind in chosen.kind or KINDS:
            found = list(written_pairs(chosen.docling, Path(written), kind) if kind in WRITTEN else pairs(chosen.docling, kind))
            engines = {name: ENGINES[name] for name in names if name != "striprtf" or kind == "rtf"}
            if kind == "pdf" and chosen.readers:
                engines |= {name: Reader(chosen.readers, name) for name in READERS}
            for name, engine in engines.items():
                scores = _measure(found, engine, chosen.files)
                if scores.files:
                    shares = [scores.mean(one) for one in ("recall", "precision", "trigrams", "cells", "headings")]
                    speed = scores.pages / scores.processor_s if scores.pages else None
                    rows.append((kind, name, scores.files, scores.failed, *shares, round(scores.seconds / scores.files, 3), speed))
    head = ("kind", "engine", "files", "failed", "recall", "precision", "trigrams", "cells", "headings", "s/file", "pages/s")
    shown = [tuple("–" if v is None else (f"{v:.3f}" if isinstance(v, float) else str(v)) for v in row) for row in rows]
    print(table(head, shown))
    save("documents", {"machine": machine(), "rows": _with_others([dict(zip(head, row, strict=True)) for row in rows])})


def _with_others(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows with those of kinds that were not measured now, as they were saved."""
    path = RESULTS / "documents.json"
    saved = json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else []
    measured = {row["kind"] for row in rows}
    return sorted([*rows, *(row for row in saved if row["kind"] not in measured)], key=lambda row: KINDS.index(str(row["kind"])))


def _measure(found: list[tuple[Path, Path]], engine: Callable[[Path], Text], each: bool) -> Scores:
    scores = Scores()
    if found and found[0][0].suffix == ".pdf":  # what it imports is no part of the speed
        with contextlib.suppress(Exception):
            engine(found[0][0])
    for source, truth in found:
        began, used = time.perf_counter(), time.process_time()
        try:
            text = engine(source)
        except Exception as error:  # each engine has its own
            scores.failed += 1
            text = Text()
            print(f"{source.name}: {type(error).__name__}: {str(error)[:150]}")
        scores.seconds += time.perf_counter() - began
        scores.processor_s += engine.seconds if isinstance(engine, Reader) else time.process_time() - used
        scores.pages += len(pypdfium2.PdfDocument(source)) if source.suffix == ".pdf" else 0
        scores.files += 1
        alone = Scores()
        wanted = of_markdown(truth.read_text("utf-8"))
        alone.add(wanted, text)
        scores.add(wanted, text)
        if each:
            print(source.name, {name: round(shares[0], 3) for name, shares in alone.shares.items()})
    return scores


if __name__ == "__main__":
    main()
