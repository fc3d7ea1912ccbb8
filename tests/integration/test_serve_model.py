"""The model of a service, which has a process of its own."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest

from tests.services import Cli
from tests.serving import Service, search

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TEXTS = {
    "bees.txt": "Bees visit flowers for nectar.\n",
    "soil.txt": "Compost makes the soil of a garden warm.\n",
    "wages.txt": "Gardeners are paid every month.\n",
}


def has_torch(process: psutil.Process) -> bool:
    return any("libtorch" in one.path for one in process.memory_maps())


def found(client: httpx.Client) -> list[tuple[str, float]]:
    """Names and scores of the hits, the best first."""
    hits = search(client, "insects that collect honey", mode="dense", limit=3)
    return [(hit["uri"].rpartition("/")[2], hit["score"]) for hit in hits]


def test_a_model_that_is_killed_is_loaded_by_the_service(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    cli = Cli(tmp_path / "data", KB_DEVICE="cpu", KB_INGEST_DEVICE="cpu", KB_EMBED_URL="")
    cli.run("load", str(folder))
    with Service(cli) as service, service.client() as client:
        process = psutil.Process(service.pid)
        before = found(client)
        assert before[0][0] == "bees.txt"
        assert before == found(client)
        (model,) = [one for one in process.children() if "modelserver" in " ".join(one.cmdline())]
        assert has_torch(model)
        assert not has_torch(process)
        model.kill()
        after = found(client)
        assert [name for name, _ in after] == [name for name, _ in before]
        assert [score for _, score in after] == pytest.approx([score for _, score in before], abs=0.01)
        assert has_torch(process)
    assert "this process loads the model" in service.said
    assert not model.is_running()
