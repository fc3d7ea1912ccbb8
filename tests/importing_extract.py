"""A stand-in for `pipeline.sandbox.extract.extract` that notes which modules its process has, and gives them as the title."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

from pipeline.chunk.units import ChunkOptions
from pipeline.model.tokens import TokenCounter
from pipeline.parse.gate import Limits
from pipeline.sandbox.extract import Extracted, ExtractJob, SoFar
from pipeline.sandbox.extract import extract as real_extract

#: No parser needs them. A CUDA build of torch alone reserves more address space than a parser may use memory.
FORBIDDEN = ("torch", "sentence_transformers", "transformers", "sklearn", "scipy", "spacy", "thinc")


def extract(
    job: ExtractJob,
    counter: TokenCounter,
    options: ChunkOptions,
    limits: Limits,
    tell: Callable[[SoFar], None],
    on_type: Callable[[str], None],
) -> Extracted:
    """Extract; the title is the forbidden modules, then those that were imported while the document was at work."""
    before = set(sys.modules)
    made = real_extract(job, counter, options, limits, tell, on_type)
    # The standard library is small, and which codec a text needs is known only when it is read.
    late = sorted({name.partition(".")[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names)
    return replace(made, title=" ".join([*(name for name in FORBIDDEN if name in sys.modules), *late]))
