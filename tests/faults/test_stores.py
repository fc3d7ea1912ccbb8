"""The store refuses, stumbles, hangs, lies and loses."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.faults.conftest import ALL, RUNS, SEED, Deployment
from tests.services import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]

#: What the stand-in does; upserts are PUT .../points.
FAULTS: dict[str, list[dict[str, Any]]] = {
    "500": [{"kind": "status", "status": 500, "count": 12, "path": "points"}],
    "429": [{"kind": "status", "status": 429, "count": 6, "path": "points"}],
    "slow": [{"kind": "delay", "delay_s": 0.3, "count": 30, "path": "points"}],
    "acknowledged only": [{"kind": "acknowledged", "count": 4, "method": "PUT", "path": "points"}],
    "dropped in mid-upsert": [{"kind": "drop", "count": 4, "method": "PUT", "path": "points"}],
    "acknowledgement lost": [{"kind": "lost_ack", "count": 4, "method": "PUT", "path": "points"}],
}

#: Half an hour in the longest suite.
OUTAGE_S = min(1800, 90 * RUNS) if ALL else 13


@pytest.mark.parametrize("fault", FAULTS if ALL else ("acknowledged only", "dropped in mid-upsert"))
def test_a_store_that_stumbles(lasting: Deployment, fault: str) -> None:
    print(f"seed {SEED}")
    for number in range(RUNS):
        lasting.misbehave(*FAULTS[fault])
        lasting.load(80, prefix=f"{fault.replace(' ', '-')}-{number}-")
        lasting.settle(120)
    lasting.misbehave()
    assert lasting.charged() == 0, "a store that stumbles is no document's fault"
    lasting.check(f"Qdrant: {fault}", runs=RUNS)


def test_an_outage_quarantines_nothing(deployment: Deployment) -> None:
    deployment.write(40)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.qdrant.stop(signal.SIGKILL)
    deployment.up()
    # Longer than several leases, and than the store's own retries.
    time.sleep(OUTAGE_S)
    assert "quarantined" not in deployment.states()
    deployment.qdrant.start()
    deployment.settle(120)
    assert deployment.charged() == 0
    deployment.check("Qdrant: refused", 40)


def test_workers_that_start_before_their_servers_do(deployment: Deployment) -> None:
    """Neither the model's endpoint nor Qdrant answers when the embed worker begins."""
    # A claim waits for both servers, one after the other: on a busy machine that takes longer than the short lease of these tests.
    deployment.cli.environment["KB_LEASE_S"] = "30"
    deployment.load(20)
    deployment.embed.stop(signal.SIGKILL)
    deployment.qdrant.stop(signal.SIGKILL)
    deployment.up()
    wait_until(lambda: deployment.states().get("parsed", 0) > 0, "documents wait for the model")
    time.sleep(3)
    deployment.embed.start()
    deployment.qdrant.start()
    deployment.settle(120)
    assert deployment.charged() == 0
    deployment.check("Qdrant and the model's endpoint away at start")


def test_verify_restores_what_the_store_has_lost(deployment: Deployment) -> None:
    deployment.write(40)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.misbehave({"kind": "forget", "count": 2, "method": "PUT", "path": "points"})
    deployment.up()
    deployment.settle(120)
    assert deployment.json("verify", status=1)["missing"] > 0
    assert deployment.json("verify", "--repair")["missing"] == 0
    deployment.check("Qdrant: loses upserts, then verify --repair", 40)


@pytest.mark.only_all
def test_an_edit_while_the_store_is_away_keeps_the_old_version_until_the_new_one_is_whole(deployment: Deployment) -> None:
    deployment.write(10)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up()
    deployment.settle()
    before = deployment.json("verify")["actual_points"]
    deployment.write(10, paragraphs=9)
    deployment.misbehave({"kind": "status", "status": 503, "count": -1, "method": "PUT", "path": "points"})
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    wait_until(lambda: deployment.states().get("indexed", 0) == 0, "all of them open again")
    time.sleep(10)
    assert deployment.json("search", "river stone", "--limit", "50")
    deployment.misbehave()
    deployment.settle(120)
    assert deployment.json("verify")["actual_points"] > before
    deployment.check("Qdrant: away during an edit", 10)
