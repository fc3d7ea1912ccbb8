"""kill -9 exactly at each boundary of a document's way, while an older version of it is searchable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import ALL, RUNS, Deployment

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]

#: As in inject/sitecustomize.py.
BOUNDARIES = [
    "claim",
    "parsed, chunk file not in staging",
    "chunk file written",
    "before upsert",
    "after upsert",
    "after delete of old points",
    "before ledger commit",
    "after ledger commit",
    "before ack of parse",
    "before ack of embed",
]

#: In the short set only those where something is half done.
SHORT = ("after upsert", "after delete of old points")

#: Kills between two chances to recover: a third one in a row on the same document would rightly quarantine it.
KILLS = 2


def arm(deployment: Deployment, folder: Path, boundary: str) -> Path:
    """Have the workers of the next `up` kill themselves at a boundary, once for each file in the returned folder."""
    tokens = folder / "kills"
    tokens.mkdir()
    deployment.inject(KB_FAULT_BOUNDARY=boundary, KB_FAULT_KILLS=str(tokens))
    return tokens


@pytest.mark.parametrize("boundary", BOUNDARIES if ALL else SHORT)
def test_kill_9_at_a_boundary(deployment: Deployment, tmp_path: Path, boundary: str) -> None:
    deployment.write(16)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up("--until-empty").wait(90)
    points = deployment.json("verify")["actual_points"]
    tokens = arm(deployment, tmp_path, boundary)
    deployment.up()
    turns = -(-RUNS // KILLS)
    for turn in range(turns):
        for number in range(KILLS):
            (tokens / str(number)).touch()
        deployment.load(16, paragraphs=11 + turn % 2)
        if turn == 0:
            assert deployment.json("search", "river stone", "--limit", "5"), "the old version answers"
        deployment.settle(120)
        assert not list(tokens.iterdir()), "nobody died"
    deployment.check(f"kill -9 at: {boundary}", 16, runs=KILLS * turns)
    assert points > 0
