"""Alert rules, dashboard and services of the profile `monitoring` fit each other and what is really exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from pipeline.settings import Settings
from tests.services import REPOSITORY
from workers.deploy.env import FOLDERS, initial
from workers.monitoring.exporter import DeploymentCollector, registry_of

FOLDER = REPOSITORY / "docker" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "kb-ingest.json").read_text("utf-8"))
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))["groups"] for rule in group["rules"]]
SERVICES = yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))["services"]
GUIDE = (REPOSITORY / "docs" / "monitoring.md").read_text("utf-8")


def expressions() -> Iterator[str]:
    for rule in RULES:
        yield rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield re.sub(r"^label_values\((.+), \w+\)$", r"\1", variable["query"]["query"])


def exported(tmp_path: Path) -> set[str]:
    """Names of all series that the exporter can give."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    with closing(DeploymentCollector(Settings(data_dir=tmp_path))) as collector:
        return {metric.name + suffix for metric in registry_of(collector).collect() for suffix in suffixes[metric.type]}


@pytest.fixture(scope="module")
def promtool(unavailable: Callable[[str], NoReturn]) -> Callable[..., str]:
    program = shutil.which("promtool")
    if program is None:
        unavailable("no promtool on this machine")

    def run(*arguments: str) -> str:
        done = subprocess.run([program, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_prometheus_accepts_its_configuration_and_the_rules(promtool: Callable[..., str]) -> None:
    assert "1 rule files found" in promtool("check", "config", "prometheus.yaml")
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "alerts.yaml")


def test_alerts_fire_when_they_should_and_at_no_other_time(promtool: Callable[..., str]) -> None:
    promtool("test", "rules", "alerts.test.yaml")
    tested = (FOLDER / "alerts.test.yaml").read_text("utf-8")
    assert [rule["alert"] for rule in RULES if f'"{rule["alert"]}"' not in tested] == []


def test_a_rule_that_is_changed_is_noticed(promtool: Callable[..., str], tmp_path: Path) -> None:
    rules = (FOLDER / "alerts.yaml").read_text("utf-8")
    (tmp_path / "alerts.yaml").write_text(rules.replace("kb_ingest_queue_workers == 0", "kb_ingest_queue_workers == 1"))
    shutil.copy(FOLDER / "alerts.test.yaml", tmp_path)
    with pytest.raises(AssertionError, match="KbIngestQueueServedByNobody"):
        promtool("test", "rules", str(tmp_path / "alerts.test.yaml"))


def test_every_expression_can_be_read(promtool: Callable[..., str], tmp_path: Path) -> None:
    readable = [one.replace("$__rate_interval", "1m").replace("$collection", ".*") for one in expressions()]
    rules = [{"record": f"one:of:{number}", "expr": one} for number, one in enumerate(readable)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert len(rules) > 30


def test_expressions_name_only_what_is_exported(tmp_path: Path) -> None:
    named = {name for one in expressions() for name in re.findall(r"\bkb_ingest_\w+", one)}
    assert named
    assert named - exported(tmp_path) == set()


def test_every_metric_and_every_alert_is_in_the_guide(tmp_path: Path) -> None:
    names = {re.sub("_(bucket|sum|count)$", "", name) for name in exported(tmp_path)}
    assert {name for name in names if f"`{name}`" not in GUIDE and f"`{name}{{" not in GUIDE} == set()
    for rule in RULES:
        assert f"`{rule['alert']}`" in GUIDE
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert "To do: " in rule["annotations"]["description"]


def test_panels_say_what_they_show_and_do_not_overlap() -> None:
    titles: list[str] = []
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        titles.append(panel["title"])
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "kb-prometheus"
    assert len(titles) == len(set(titles))
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8"))["datasources"][0]
    assert (source["uid"], source["url"]) == ("kb-prometheus", "http://prometheus:9090")


def test_the_services_are_hardened_like_the_others() -> None:
    for name in ("metrics", "prometheus", "grafana"):
        service: dict[str, Any] = SERVICES[name]
        assert service["profiles"] == ["monitoring"]
        assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], True)
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"user", "mem_limit", "cpus", "pids_limit", "healthcheck", "logging", "tmpfs"} <= set(service)
    assert not {"KB_API_KEY", "KB_EMBED_API_KEY"} & set(SERVICES["metrics"]["environment"])
    (target,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text("utf-8"))["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == "metrics:9808"
    assert SERVICES["metrics"]["ports"][0].endswith(":9808")
    # They have no password: nothing that reads files of strangers is where they are.
    for name in ("metrics", "prometheus"):
        assert not set(SERVICES[name]["networks"]) & set(SERVICES["worker-parse"]["networks"])
    assert "outside" in SERVICES["redis"]["networks"]


def test_what_is_mounted_is_there(tmp_path: Path) -> None:
    for name in ("prometheus", "grafana"):
        for volume in SERVICES[name]["volumes"]:
            if volume.startswith("./"):
                assert (REPOSITORY / volume.partition(":")[0]).is_dir()
            else:
                assert re.sub(r"^\$\{[^}]*\}/|:.*$", "", volume) in FOLDERS
    inside = Path("/etc/monitoring")
    named = re.findall(
        r"/etc/monitoring/[\w./-]+", str(SERVICES) + (FOLDER / "grafana/provisioning/dashboards/kb-ingest.yaml").read_text()
    )
    assert len(named) == 4
    for path in named:
        assert (FOLDER / Path(path).relative_to(inside)).exists(), path


def test_init_makes_a_password_of_its_own(tmp_path: Path) -> None:
    values = initial({}, tmp_path, native=False, data_dir=None)
    assert len(values["KB_GRAFANA_PASSWORD"]) >= 24
    assert "KB_GRAFANA_PASSWORD" not in initial({"KB_GRAFANA_PASSWORD": "mine"}, tmp_path, native=False, data_dir=None)
