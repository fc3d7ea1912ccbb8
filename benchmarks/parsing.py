"""What parsing and chunking cost: PDF pages a second, and HTML, Markdown and text against the embedding of the same text.

    python -m benchmarks.parsing [--rounds 3] [--pages 60]

One process, one core: processor seconds, not wall clock. PDFs are those that Debian's packages have put under /usr/share/doc.
Markdown and text are the HTML pages written out again, so that all three formats carry the same words.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.corpus import pages
from benchmarks.report import machine, save, table
from pipeline.chunk.pack import chunk_elements
from pipeline.chunk.units import ChunkOptions
from pipeline.embed.local import LocalEmbedder
from pipeline.model.files import resolve_model
from pipeline.model.tokens import TokenCounter
from pipeline.parse import parse
from pipeline.parse.gate import Limits, inspect
from pipeline.settings import load_settings
from pipeline.types import Chunk, Element, ElementKind, document_id

OPTIONS = ChunkOptions(256, 0, 4096)


def chunks_of(path: Path, counter: TokenCounter) -> list[Chunk]:
    """What a worker makes of a file."""
    elements = parse(path, path.name, inspect(path, path.name, Limits())).elements
    return list(chunk_elements(document_id("benchmark", path.as_uri()), elements, counter, OPTIONS))


def pdfs(folder: Path) -> list[Path]:
    """The PDFs of the installed packages, unpacked where Debian has compressed them."""
    found = sorted(Path("/usr/share/doc").glob("**/*.pdf"))
    for packed in sorted(Path("/usr/share/doc").glob("**/*.pdf.gz")):
        target = folder / packed.stem
        target.write_bytes(gzip.decompress(packed.read_bytes()))
        found.append(target)
    return found


def written_out(elements: Iterable[Element], marks: bool) -> str:
    """Elements as Markdown, or as bare text."""
    parts = []
    for element in elements:
        if element.kind is ElementKind.HEADING and marks:
            parts.append("#" * min(6, element.level or 1) + " " + " ".join(element.text.split()))
        elif element.kind is ElementKind.CODE and marks:
            parts.append(f"```\n{element.text}\n```")
        else:
            parts.append(element.text)
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure, print the tables, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", type=int, default=60, help="HTML pages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = load_settings(data_dir=folder / "data", ingest_device="cpu")
        counter = TokenCounter.from_folder(resolve_model(settings).path)
        files = pages()
        files = files[:: max(1, len(files) // options.pages)][: options.pages]
        corpora: dict[str, list[Path]] = {"html": files, "md": [], "txt": []}
        for number, path in enumerate(files):
            elements = list(parse(path, path.name, inspect(path, path.name, Limits())).elements)
            for ending, marks in (("md", True), ("txt", False)):
                target = folder / f"{number}.{ending}"
                target.write_text(written_out(elements, marks), "utf-8")
                corpora[ending].append(target)
        pdf_files = pdfs(folder)
        pdf_pages = sum(max((chunk.page_last or 0 for chunk in chunks_of(path, counter)), default=0) for path in pdf_files)
        embedder = LocalEmbedder.load(settings, "cpu")
        embedder.embed([chunk.embed_text for chunk in chunks_of(files[0], counter)])
        pdf_rates: list[float] = []
        shares: dict[str, list[float]] = {name: [] for name in corpora}
        for _ in range(options.rounds):
            began = time.process_time()
            for path in pdf_files:
                chunks_of(path, counter)
            pdf_rates.append(pdf_pages / (time.process_time() - began))
            for name, paths in corpora.items():
                began = time.process_time()
                texts = [chunk.embed_text for path in paths for chunk in chunks_of(path, counter)]
                parsed = time.process_time()
                embedder.embed(texts)
                shares[name].append((parsed - began) / (time.process_time() - parsed))
        embedder.close()
    medians = {name: round(statistics.median(values), 4) for name, values in shares.items()}
    rate = round(statistics.median(pdf_rates))
    print(machine())
    print(f"pdf: {len(pdf_files)} files, {pdf_pages} pages: {rate} pages a second and core, parsed and chunked")
    print(table(("format", "CPU of parsing and chunking by that of embedding the same text"), list(medians.items())))
    save("parsing", {"pdf_pages": pdf_pages, "pdf_pages_per_s": pdf_rates, "shares": shares, "median_shares": medians})


if __name__ == "__main__":
    main()
