"""Other readers of PDFs, each as the Markdown or text that it gives; runs with a Python that has them (`make bench-documents`).

python -m benchmarks.readers READER    reads paths from stdin, line by line, and answers each with a line of JSON
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _module(name: str) -> Any:
    return importlib.import_module(name)  # kb-ingest's own environment has none of them


def pypdf(path: Path) -> str:
    """The text of each page."""
    return "\n".join(page.extract_text() for page in _module("pypdf").PdfReader(path).pages)


def pymupdf4llm(path: Path) -> str:
    """Markdown, without text recognition, which needs Tesseract."""
    return str(_module("pymupdf4llm").to_markdown(str(path), use_ocr=False, show_progress=False))


def pdf_inspector(path: Path) -> str:
    """Markdown."""
    return str(_module("pdf_inspector").process_pdf(str(path)).markdown or "")


def kreuzberg(path: Path) -> str:
    """Markdown, without text recognition."""
    reader = _module("kreuzberg")
    return str(reader.extract_file_sync(str(path), config=reader.ExtractionConfig(output_format="markdown")).content)


READERS: dict[str, Callable[[Path], str]] = {
    "pypdf": pypdf,
    "pymupdf4llm": pymupdf4llm,
    "pdf-inspector": pdf_inspector,
    "kreuzberg": kreuzberg,
}


def main() -> None:
    """Answer each path of stdin with its text and the processor seconds that it took, or with an error."""
    reader = READERS[sys.argv[1]]
    answers = sys.stdout
    sys.stdout = sys.stderr  # some readers print
    for line in sys.stdin:
        began = time.process_time()
        try:
            answer: dict[str, object] = {"text": reader(Path(line.rstrip("\n")))}
        except Exception as error:  # each reader has its own
            answer = {"error": f"{type(error).__name__}: {str(error)[:150]}"}
        print(json.dumps({**answer, "seconds": time.process_time() - began}), file=answers, flush=True)


if __name__ == "__main__":
    main()
