"""`kb-ingest metrics` as a process: scraped over HTTP, and by a real Prometheus with the project's own rules."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import signal
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.embed_server import MODEL
from tests.services import REPOSITORY, Cli, Server, embed_server, free_port, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def value(url: str, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(get(url)):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


@pytest.fixture
def deployment(redis: Server, qdrant: Server, tmp_path: Path) -> Iterator[Cli]:
    """Redis, store and embedding endpoint, without workers."""
    embed = embed_server(tmp_path / "embed")
    embed.start()
    yield Cli(
        tmp_path / "data", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}",
        KB_EMBED_URL=f"http://127.0.0.1:{embed.port}", KB_EMBED_API="openai", KB_EMBED_MODEL=MODEL,
    )  # fmt: skip
    embed.stop()


@pytest.fixture
def exporter(deployment: Cli) -> Iterator[str]:
    """The address of a running `kb-ingest metrics`."""
    port = free_port()
    process = deployment.start("metrics", "--port", str(port))

    def answers() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            return get(f"http://127.0.0.1:{port}/healthz") == "ok\n"
        except OSError:
            return False

    wait_until(answers, "it answers")
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in err


def test_a_load_is_seen_in_the_metrics(deployment: Cli, exporter: str, documents: Path, redis: Server) -> None:
    url = f"{exporter}/metrics"
    deployment.run("load", str(documents), "--no-wait")
    wait_until(lambda: value(url, "kb_ingest_queue_documents", queue="parse") == 4, "documents wait")
    messages = value(url, "kb_ingest_queue_messages", queue="parse")
    assert messages is not None
    assert messages >= 1
    assert value(url, "kb_ingest_queue_workers", queue="parse") == 0
    assert json.loads(get(f"{exporter}/backlog")) == {"parse": 4, "embed": 0}
    deployment.run("up", "--until-empty")
    wait_until(lambda: value(url, "kb_ingest_indexed_documents_total") == 4, "documents are indexed")
    text = get(url)
    found = {family.name: family for family in text_string_to_metric_families(text)}
    chunks = {s.name: s.value for s in found["kb_ingest_indexed_chunks"].samples}["kb_ingest_indexed_chunks_total"]
    assert chunks == deployment.whole()
    counted = {(s.name.rpartition("_")[2], s.labels.get("stage")): s.value for s in found["kb_ingest_stage_seconds"].samples}
    assert (counted["count", "parse"], counted["count", "embed"]) == (4, 4)
    assert counted["sum", "parse"] > 0
    upserts = {s.name: s.value for s in found["kb_ingest_upsert_seconds"].samples}
    assert upserts["kb_ingest_upsert_seconds_count"] >= 1
    ended = {(s.labels["action"], s.labels["outcome"]): s.value for s in found["kb_ingest_runs"].samples}
    assert ended["load", "failed"] == 0
    assert {pair for pair, number in ended.items() if number} <= {("load", "done")}
    wait_until(lambda: json.loads(get(f"{exporter}/backlog")) == {"parse": 0, "embed": 0}, "nothing is left")
    assert deployment.run("metrics", "--once").stdout.count("# TYPE kb_ingest_") == text.count("# TYPE kb_ingest_")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{exporter}/")
    port = exporter.rpartition(":")[2]
    taken = deployment.run("metrics", "--port", port, status=1)
    assert taken.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    redis.stop()
    wait_until(lambda: value(url, "kb_ingest_broker_up") == 0, "the broker is missed")
    assert value(url, "kb_ingest_indexed_documents_total") == 4
    assert get(f"{exporter}/healthz") == "ok\n"


@pytest.fixture
def prometheus(exporter: str, tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[str]:
    """The address of a Prometheus with the project's configuration, quicker and with this test's exporter as its target."""
    program = shutil.which("prometheus")
    if program is None:
        unavailable("no prometheus on this machine")
    folder = tmp_path / "prometheus"
    folder.mkdir()
    source = REPOSITORY / "docker" / "monitoring"
    config = yaml.safe_load((source / "prometheus.yaml").read_text("utf-8"))
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = config["scrape_configs"][:1]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [exporter.removeprefix("http://")]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    rules = yaml.safe_load((source / "alerts.yaml").read_text("utf-8"))
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "2s"
    (folder / "alerts.yaml").write_text(yaml.safe_dump(rules))

    def command(port: int) -> list[str]:
        return [program, "--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]

    server = Server(command, folder, "prometheus")
    server.start()
    yield f"http://127.0.0.1:{server.port}/api/v1"
    server.stop()


def test_a_real_prometheus_reads_them_and_an_alert_fires_and_panels_fill(deployment: Cli, prometheus: str, documents: Path) -> None:
    def ask(path: str) -> Any:
        try:
            return json.loads(get(f"{prometheus}/{path}"))["data"]
        except urllib.error.HTTPError as error:
            if error.code != 503:  # not ready yet
                raise
            return None

    def query(expression: str) -> list[tuple[dict[str, str], float]]:
        data = ask(f"query?query={urllib.parse.quote(expression)}")
        return [(row["metric"], float(row["value"][1])) for row in data["result"]] if data else []

    def firing() -> dict[str, dict[str, str]]:
        alerts = (ask("alerts") or {"alerts": []})["alerts"]
        return {one["labels"]["alertname"]: one for one in alerts if one["state"] == "firing"}

    began = time.time()
    wait_until(lambda: [number for _, number in query('up{job="kb-ingest"}')] == [1.0], "the target is up")
    (target,) = ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    wait_until(lambda: firing() == {}, "no alert fires")
    deployment.run("load", str(documents), "--no-wait")
    wait_until(lambda: "KbIngestQueueServedByNobody" in firing(), "the alert fires")
    alerts = firing()
    assert set(alerts) == {"KbIngestQueueServedByNobody"}
    alert: Any = alerts["KbIngestQueueServedByNobody"]
    assert alert["labels"]["queue"] == "parse"
    assert alert["annotations"]["description"].startswith("4 documents have waited")
    up = deployment.start("up")
    try:
        wait_until(lambda: firing() == {}, "the alert is over")
        wait_until(lambda: query("sum(kb_ingest_indexed_documents_total)") == [({}, 4.0)], "four documents")
        # A run that is waited for, and a document that is quarantined: nothing of the dashboard is without a figure.
        (documents / "broken.pdf").write_bytes(b"%PDF-1.4 no more of it")
        (documents / "hive.txt").write_text("A hive has one queen.")
        deployment.run("load", str(documents), status=3)
        wait_until(lambda: query("sum(kb_ingest_quarantined_documents)") == [({}, 1.0)], "the quarantine is counted")
        # What was read a moment ago is in no step of a range yet.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not panels_without_figures(ask, began), "every panel has figures", 60, 0.5)
        assert panels_without_figures(ask, began) == []
    finally:
        up.send_signal(signal.SIGTERM)
        up.communicate(timeout=60)
    (group,) = ask("rules")["groups"]
    assert {rule["name"] for rule in group["rules"]} > set(alerts)
    assert [(rule["name"], rule["lastError"]) for rule in group["rules"] if rule["health"] != "ok"] == []


def panels_without_figures(ask: Callable[[str], Any], began: float) -> list[str]:
    """Expressions of the dashboard that give no figures for their kind of panel, or not the labels that their legend names."""
    dashboard = json.loads((REPOSITORY / "docker/monitoring/grafana/dashboards/kb-ingest.json").read_text("utf-8"))
    wrong, seen = [], 0
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$collection", ".*")
            asked = {"query": expression, "start": f"{began:.3f}", "end": f"{time.time():.3f}", "step": "1"}
            over_time = ask(f"query_range?{urllib.parse.urlencode(asked)}")["result"]
            now = ask(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]
            numbers = [float(number) for series in over_time for _, number in series["values"]]
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            drawn = target.get("instant") or any(map(math.isfinite, numbers))
            if not (drawn and now and labels <= {label for series in now for label in series["metric"]}):
                wrong.append(expression)
            seen += 1
    assert seen > 30
    for variable in dashboard["templating"]["list"]:
        selector, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        assert ask(f"label/{label}/values?match[]={selector}") == ["documents"]
    return wrong
