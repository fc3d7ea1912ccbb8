"""The Helm chart: what it renders is valid for Kubernetes, hardened, and agrees with the code and with itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import kubernetes_validate
import pytest
import yaml

from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.types import Stage
from tests.services import REPOSITORY
from workers.api.serve import STOP_S
from workers.broker.app import SHUTDOWN_S
from workers.monitoring.exporter import DeploymentCollector

CHART = REPOSITORY / "docker" / "helm" / "kb-ingest"

#: The oldest version that the chart says it supports, and the newest one whose schemas are here.
KUBERNETES = ("1.27", "1.37")

#: Kinds of other projects; their schemas are not among those of Kubernetes.
FOREIGN = {"ScaledObject", "ServiceMonitor"}

#: Values by name: bundled services; a volume, scaling, GPUs of two vendors and an ingress; servers elsewhere.
VALUES: dict[str, dict[str, Any]] = {
    "bundled": {"staging": {"url": "s3://bucket/kb"}, "settings": {"KB_COLLECTION": "handbooks", "KB_CHUNK_TOKENS": 224}},
    "gpus": {
        "staging": {"volume": {"enabled": True}},
        "documents": {"nfs": {"server": "files", "path": "/handbooks"}},
        "modelCache": {"existingClaim": "models"},
        "imagePullSecrets": [{"name": "registry"}],
        "parse": {"scaling": {"enabled": True}},
        "embed": {
            "pools": {
                "cpu": None,
                "nvidia": {
                    "gpu": {"resource": "nvidia.com/gpu", "count": 2},
                    "scaling": {"enabled": True, "min": 0, "max": 8, "documentsPerPod": 5000},
                    "nodeSelector": {"gpu": "h200"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                },
                "amd": {"gpu": {"resource": "amd.com/gpu"}, "image": "registry.example.org/kb:mine", "runtimeClassName": "rocm"},
            }
        },
        "metrics": {"serviceMonitor": True},
        "api": {"ingress": {"enabled": True, "host": "kb.example.org", "tlsSecret": "kb-tls", "className": "nginx"}},
    },
    "elsewhere": {
        "staging": {"url": "s3://bucket/kb"},
        "secret": {"existing": "mine"},
        "redis": {"bundled": False, "port": 6380},
        "postgres": {"bundled": False},
        "qdrant": {"bundled": False, "url": "https://qdrant.example.org:6333"},
        "networkPolicy": {"parseEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
    },
}

Object = dict[str, Any]


@pytest.fixture(scope="session")
def helm(unavailable: Callable[[str], NoReturn]) -> str:
    program = Path(sys.executable).parent / "helm"
    found = str(program) if program.exists() else shutil.which("helm")
    return found or unavailable("no helm on this machine")


def template(helm: str, folder: Path, values: Object) -> subprocess.CompletedProcess[str]:
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    command = [helm, "template", "prod", str(CHART), "--namespace", "kb", "-f", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module", params=VALUES)
def objects(request: pytest.FixtureRequest, helm: str, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """What the chart renders with each of VALUES."""
    done = template(helm, tmp_path_factory.mktemp("chart"), VALUES[request.param])
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(objects: list[Object], *kinds: str) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] in kinds}


def pods(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Name, metadata and specification of every pod."""
    for one in objects:
        if one["kind"] == "Pod":
            yield one["metadata"]["name"], one["metadata"], one["spec"]
        elif "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]["metadata"], one["spec"]["template"]["spec"]


def environment(spec: Object) -> dict[str, Object]:
    (container,) = spec["containers"]
    return {one["name"]: one for one in container["env"]}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    holds = {
        "In": lambda value, values: value in values,
        "NotIn": lambda value, values: value not in values,
    }
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        holds[one["operator"]](labels.get(one["key"]), one["values"]) for one in selector.get("matchExpressions", [])
    )


def test_helm_finds_nothing_wrong(helm: str) -> None:
    command = [helm, "lint", "--strict", str(CHART), "--set", "staging.url=s3://bucket/kb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_for_kubernetes(objects: list[Object], version: str) -> None:
    assert len(objects) > 20
    for one in objects:
        if one["kind"] not in FOREIGN:
            kubernetes_validate.validate(one, version, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))


def test_every_pod_is_hardened(objects: list[Object]) -> None:
    for name, _, spec in pods(objects):
        assert spec["automountServiceAccountToken"] is False, name
        of_pod = spec["securityContext"]
        assert of_pod["runAsNonRoot"] is True, name
        assert of_pod["runAsUser"] > 0, name
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            of_container = container["securityContext"]
            assert of_container["readOnlyRootFilesystem"] is True, name
            assert of_container["allowPrivilegeEscalation"] is False, name
            assert of_container["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            if not name.endswith("-doctor"):  # it ends by itself
                assert {"startupProbe", "livenessProbe"} <= set(container), name


def test_every_variable_is_a_setting_and_every_pod_has_what_it_needs(objects: list[Object]) -> None:
    ours = {f"KB_{name.upper()}" for name in Settings.model_fields}
    for name, _, spec in pods(objects):
        if spec["containers"][0]["name"] in ("redis", "qdrant", "postgres"):
            continue
        variables = environment(spec)
        assert {key for key in variables if key.startswith("KB_")} <= ours, name
        assert {"KB_REDIS_URL", "KB_DATABASE_URL", "KB_STAGING_URL"} <= set(variables), name
        for one in variables.values():  # what a value refers to is defined before it
            for part in re.findall(r"\$\((\w+)\)", one.get("value", "")):
                assert list(variables).index(part) < list(variables).index(one["name"])
    (settings,) = of_kind(objects, "ConfigMap").values()
    assert set(settings["data"]) <= ours
    assert all(isinstance(value, str) for value in settings["data"].values())


def test_parsers_get_no_key_of_the_store_and_no_way_to_it(objects: list[Object]) -> None:
    specs = {name: (meta["labels"], spec) for name, meta, spec in pods(objects)}
    labels, parse = specs["prod-kb-ingest-parse"]
    assert not {"KB_API_KEY", "KB_QDRANT_URL", "KB_EMBED_API_KEY", "KB_RERANK_API_KEY", "HF_TOKEN"} & set(environment(parse))
    embed = next(spec for name, (_, spec) in specs.items() if "-embed-" in name)
    assert {"KB_API_KEY", "KB_QDRANT_URL"} <= set(environment(embed))
    policies = [one["spec"] for one in of_kind(objects, "NetworkPolicy").values()]
    mine = [one for one in policies if selects(one["podSelector"], labels) and "Egress" in one["policyTypes"]]
    rules = [rule for one in mine for rule in one.get("egress", [])]
    ports = {port["port"] for rule in rules for port in rule.get("ports", [])}
    assert {53, 5432} <= ports
    assert 6333 not in ports
    assert [one for one in mine if not one.get("egress")], "nothing closes what is not opened"
    for qdrant in (meta["labels"] for name, meta, _ in pods(objects) if name.endswith("-qdrant")):
        for one in policies:
            for rule in one.get("ingress", []) if selects(one["podSelector"], qdrant) else []:
                assert not any(selects(peer["podSelector"], labels) for peer in rule["from"])


def test_parsers_leave_the_cluster_only_for_their_staging(objects: list[Object]) -> None:
    rules = of_kind(objects, "NetworkPolicy")["prod-kb-ingest-parse"]["spec"]["egress"]
    anywhere = {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]} - {53}
    specs = {name: spec for name, _, spec in pods(objects)}
    url = environment(specs["prod-kb-ingest-parse"])["KB_STAGING_URL"]["value"]
    if "prod-kb-ingest-redis" not in specs:  # servers elsewhere, and staging by the rule of the values
        assert anywhere == {6380, 5432}
    else:
        assert anywhere == ({443} if url.startswith("s3:") else set())


def test_services_budgets_and_policies_find_their_pods(objects: list[Object]) -> None:
    labels = {name: meta["labels"] for name, meta, _ in pods(objects)}
    ports = {name: {p["name"] for c in spec["containers"] for p in c.get("ports", [])} for name, _, spec in pods(objects)}
    for name, one in of_kind(objects, "Service").items():
        found = [pod for pod, own in labels.items() if selects({"matchLabels": one["spec"]["selector"]}, own)]
        assert found == [name]
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports[name]
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for name, one in of_kind(objects, kind).items():
            selector = one["spec"].get("selector") or one["spec"]["podSelector"]
            assert any(selects(selector, own) for own in labels.values()), name
    for name, one in of_kind(objects, "Deployment", "StatefulSet").items():
        assert selects(one["spec"]["selector"], labels[name])


def test_pods_get_longer_to_end_than_their_processes_take(objects: list[Object]) -> None:
    specs = {name: spec for name, _, spec in pods(objects)}
    for name, spec in specs.items():
        if "-embed-" in name or name.endswith(("-parse", "-scheduler", "-api")):
            assert spec["terminationGracePeriodSeconds"] > max(SHUTDOWN_S, STOP_S) + 10


def test_gpu_pools_take_their_image_and_their_devices(helm: str, tmp_path: Path) -> None:
    objects = list(yaml.safe_load_all(template(helm, tmp_path, VALUES["gpus"]).stdout))
    pools = {name.rpartition("-")[2]: one for name, one in of_kind(objects, "Deployment").items() if "-embed-" in name}
    assert set(pools) == {"nvidia", "amd"}
    specs = {name: one["spec"]["template"]["spec"] for name, one in pools.items()}
    version = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"]
    assert specs["nvidia"]["containers"][0]["image"] == f"kb-ingest:{version}-nvidia"
    assert specs["amd"]["containers"][0]["image"] == "registry.example.org/kb:mine"
    assert specs["nvidia"]["containers"][0]["resources"]["limits"] == {"memory": "3Gi", "nvidia.com/gpu": 2}
    assert specs["amd"]["containers"][0]["resources"]["limits"]["amd.com/gpu"] == 1
    assert (specs["nvidia"]["nodeSelector"], specs["amd"]["runtimeClassName"]) == ({"gpu": "h200"}, "rocm")
    # A node has no GPU left for a second pod, and KEDA, not the chart, says how many there are.
    assert all(one["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0 for one in pools.values())
    assert ("replicas" in pools["nvidia"]["spec"], "replicas" in pools["amd"]["spec"]) == (False, True)


def test_scaling_asks_for_the_backlog_that_the_exporter_gives(helm: str, tmp_path: Path, url: str, ledger: Ledger) -> None:
    objects = list(yaml.safe_load_all(template(helm, tmp_path, VALUES["gpus"]).stdout))
    scaled = of_kind(objects, "ScaledObject")
    assert set(scaled) == {"prod-kb-ingest-parse", "prod-kb-ingest-embed-nvidia"}
    service = of_kind(objects, "Service")["prod-kb-ingest-metrics"]
    collector = DeploymentCollector(Settings(data_dir=tmp_path, database_url=url))
    backlog = json.loads(json.dumps(collector.backlog()))
    collector.close()
    assert set(backlog) == set(map(str, Stage))
    for name, one in scaled.items():
        assert one["spec"]["scaleTargetRef"]["name"] in of_kind(objects, "Deployment")
        (trigger,) = one["spec"]["triggers"]
        assert trigger["metadata"]["url"] == f"http://prod-kb-ingest-metrics.kb.svc:{service['spec']['ports'][0]['port']}/backlog"
        assert trigger["metadata"]["valueLocation"] == ("parse" if name.endswith("-parse") else "embed")
        assert one["spec"]["minReplicaCount"] == 0
        assert one["spec"]["fallback"]["replicas"] == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "staging: set url"),
        ({"staging": {"url": "s3://b/kb", "volume": {"enabled": True}}}, "and not both"),
        ({"staging": {"url": "s3://b/kb"}, "qdrant": {"bundled": False}}, "qdrant: set url"),
        (
            {"staging": {"url": "s3://b/kb"}, "metrics": {"enabled": False}, "parse": {"scaling": {"enabled": True}}},
            "scaling needs metrics",
        ),
        ({"staging": {"url": "s3://b/kb"}, "embd": {}}, "embd"),
        ({"staging": {"url": "s3://b/kb"}, "settings": {"COLLECTION": "x"}}, "COLLECTION"),
        ({"staging": {"url": "s3://b/kb"}, "embed": {"pools": {"GPU": {}}}}, "GPU"),
    ],
)
def test_values_that_cannot_work_are_refused(helm: str, tmp_path: Path, values: Object, said: str) -> None:
    done = template(helm, tmp_path, values)
    assert done.returncode != 0
    assert said in done.stderr


def test_passwords_are_random_and_those_that_are_given_are_taken(helm: str, tmp_path: Path) -> None:
    values = {"staging": {"url": "s3://b/kb"}, "secret": {"values": {"KB_API_KEY": "mine", "HF_TOKEN": "token"}}}
    first, second = (
        of_kind(list(yaml.safe_load_all(template(helm, tmp_path, values).stdout)), "Secret")["prod-kb-ingest"]["data"] for _ in "ab"
    )
    assert first["KB_API_KEY"] == second["KB_API_KEY"] == "bWluZQ=="
    assert set(first) == {"KB_API_KEY", "HF_TOKEN", "KB_FLOWER_AUTH", "redis-password", "postgres-password"}
    assert first["redis-password"] != second["redis-password"]
    assert len(set(first.values())) == len(first)


def test_the_version_is_that_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert f'version = "{chart["appVersion"]}"' in (REPOSITORY / "pyproject.toml").read_text("utf-8")


def test_every_value_is_in_the_guide() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    guide = (REPOSITORY / "docs" / "kubernetes.md").read_text("utf-8")
    assert {name for name in values if f"`{name}" not in guide} == set()
    helpers = (CHART / "templates" / "_helpers.tpl").read_text("utf-8")
    keys = set(re.findall(r'"name" "([A-Z_]+)"', helpers)) - {"REDIS_PASSWORD", "POSTGRES_PASSWORD"}
    assert {key for key in keys if f"`{key}`" not in guide} == set()
