"""Which model an embed worker loads when it starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.settings import Settings
from pipeline.types import SourceFile, StagedFile, document_id
from tests.embed_server import MODEL
from tests.services import Server, embed_server
from workers.process.runtime import EmbedRuntime

#: A model that nobody has: a worker that loads it cannot work.
ABSENT = "nobody/has-this"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = embed_server(tmp_path / "embed")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def settings(tmp_path: Path, server: Server) -> Settings:
    """A configuration whose own model is absent."""
    url = f"http://127.0.0.1:{server.port}"
    return Settings(data_dir=tmp_path / "data", embed_url=url, embed_model=ABSENT).prepare()


def wait_in(settings: Settings, name: str, profile: dict[str, str]) -> None:
    """Have a document wait for a collection."""
    with Ledger.open(settings.ledger_url) as ledger:
        ledger.collections.add(Collection(name, f"{name}-1", "m", "", 3, "f", "", 1.0, profile=json.dumps(profile)))
        source = SourceFile(f"file:///{name}.txt", None, 1, 1)
        ledger.intake.record_staged(name, 1, {document_id(name, source.uri): StagedFile(source, "00", "blobs/00/00")})


def loaded(settings: Settings) -> tuple[list[str], str]:
    """The models that a worker has loaded after its start, and why it cannot work."""
    with Ledger.open(settings.ledger_url) as ledger:
        ledger.registry.register("embed@host", "embed", "host", 1)
    runtime = EmbedRuntime(settings, "embed@host")
    try:
        return [embed_model for _, _, embed_model, _ in runtime._models], str(runtime._broken or "")
    finally:
        runtime.close()
        runtime.ledger.close()


def test_the_model_of_the_documents_that_wait_is_loaded(settings: Settings) -> None:
    wait_in(settings, "docs", {"embed_model": MODEL})
    assert loaded(settings) == ([MODEL], "")


def test_the_configured_model_is_loaded_where_documents_wait_for_it_or_none_waits(settings: Settings) -> None:
    models, why = loaded(settings)
    assert (models, ABSENT in why) == ([], True)
    wait_in(settings, "docs", {"embed_model": MODEL})
    wait_in(settings, "more", {})
    models, why = loaded(settings)
    assert (models, ABSENT in why) == ([], True)
