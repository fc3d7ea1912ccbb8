"""Redis goes away, comes back empty, hangs, fills up, or holds garbage."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.conftest import ALL, RUNS, SEED, Deployment

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]

FAULTS = ["restart", "restart empty", "flushall", "stopped", "client kill", "maxmemory", "garbage", "wrong type", "unknown task"]


SHORT = ("restart empty", "client kill", "garbage")


def inject(deployment: Deployment, fault: str) -> None:
    redis = deployment.redis
    if fault.startswith("restart"):
        redis.stop(signal.SIGKILL)
        if fault.endswith("empty"):
            for path in (redis.folder / "appendonlydir").glob("*"):
                path.unlink()
        time.sleep(1)
        redis.start()
        return
    if fault == "stopped":
        redis.send(signal.SIGSTOP)
        time.sleep(40 if RUNS > 1 else 5)
        redis.send(signal.SIGCONT)
        return
    with deployment.redis_client() as client:
        if fault == "flushall":
            client.flushall()
        elif fault == "client kill":
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
        elif fault == "maxmemory":
            client.config_set("maxmemory", 1)
            time.sleep(4)
            client.config_set("maxmemory", 0)
        elif fault == "garbage":
            for queue in ("parse", "embed"):
                client.lpush(queue, b"\x00garbage{", b"[1,2]", b'{"body": 7}')
        elif fault == "wrong type":
            for queue in ("parse", "embed"):
                client.delete(queue)
                client.set(queue, "no list")
        elif fault == "unknown task":
            send_nonsense(deployment)


def send_nonsense(deployment: Deployment) -> None:
    from pipeline.settings import Settings
    from workers.broker.app import make_app

    app = make_app(Settings(data_dir=deployment.cli.data_dir, redis_url=deployment.cli.environment["KB_REDIS_URL"]))
    for queue in ("parse", "embed"):
        app.send_task("kb.nonsense", args=["x"], queue=queue)
    app.close()


@pytest.mark.parametrize("fault", FAULTS if ALL else SHORT)
def test_nothing_is_lost_and_nothing_is_charged(lasting: Deployment, fault: str) -> None:
    print(f"seed {SEED}")
    for number in range(RUNS):
        lasting.load(80, prefix=f"{fault.replace(' ', '-')}-{number}-")
        lasting.working()
        time.sleep(lasting.chance.uniform(0.0, 1.0))
        inject(lasting, fault)
        lasting.settle(120)
    assert lasting.charged() == 0, "an outage of the broker is no document's fault"
    lasting.check(f"Redis: {fault}", runs=RUNS)
