"""A folder with one file for every usual name in docs/formats.md, loaded in both modes."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.one_of_each import SAMPLES, file_name, usual_names, writable
from tests.scans import PAGE_S
from tests.services import Cli

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for every usual name."""
    made = tmp_path_factory.mktemp("kinds")
    for usual, sample in writable().items():
        sample.write(made / file_name(usual))
    return made


@pytest.fixture(params=["embedded", "served"])
def cli(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[Cli]:
    """A deployment of either mode, with its workers."""
    if request.param == "embedded":
        yield Cli(data_dir, KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu", KB_OCR="always", KB_OCR_PAGE_TIMEOUT_S=PAGE_S)
        return
    redis, qdrant = request.getfixturevalue("redis"), request.getfixturevalue("qdrant")
    served = Cli(
        data_dir,
        KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0",
        KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}",
        KB_INGEST_DEVICE="cpu",
        KB_DEVICE="cpu",
        KB_OCR="always",
        KB_OCR_PAGE_TIMEOUT_S=PAGE_S,
    )
    workers = served.start("up")
    yield served
    workers.send_signal(signal.SIGTERM)
    workers.communicate(timeout=90)


def test_every_usual_name_has_a_sample() -> None:
    names = usual_names()
    assert len(names) > 60
    assert names.keys() == SAMPLES.keys()


@pytest.mark.slow
def test_one_file_of_every_kind_loads_in_both_modes(cli: Cli, folder: Path) -> None:
    samples = writable()
    members = sum(sample.members for sample in samples.values())
    first = cli.answer("load", str(folder))
    assert (first["outcome"], first["quarantined"], first["skipped"]) == ("done", 0, 0)
    assert first["indexed"] == len(samples) + members
    assert first["losses"] == Counter(kind for sample in samples.values() for kind in sample.losses)

    types = usual_names()
    for usual, sample in samples.items():
        (shown,) = cli.answer("status", "--document", str(folder / file_name(usual)))
        assert shown["media_type"] in types[usual], usual
        assert {loss["kind"] for loss in shown["losses"]} == sample.losses, usual
    lossy = {Path(document["uri"]).name for document in cli.answer("status", "1")["lossy"]}
    assert lossy == {file_name(usual) for usual, sample in samples.items() if sample.losses}

    again = cli.answer("load", str(folder))
    assert (again["outcome"], again["unchanged"], again["indexed"], again["chunks"]) == ("done", len(samples), 0, 0)
    assert cli.whole() > len(samples)
