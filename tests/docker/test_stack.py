"""The whole deployment: hardened, loads, survives kills, and its data folder moves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.stack import USER, Stack, run
from tests.services import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SERVICES = {"redis", "qdrant", "worker-parse", "worker-embed", "scheduler", "flower", "api"}


@pytest.fixture(scope="module")
def deployed(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running deployment with a few documents."""
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        write_documents(stack.documents)
        stack.up()
        yield stack


def write_documents(folder: Path, number: int = 6) -> None:
    for count in range(number):
        name = f"page-{count}.md"
        (folder / name).write_text(f"# Page {count}\n\nPage {count} is about the number {count} and nothing else at all.\n" * 3)
    (folder / "bees.txt").write_text("Bees visit flowers for nectar, and a hive holds tens of thousands of them.\n")


def test_every_service_runs_and_is_healthy(deployed: Stack) -> None:
    found = dict(deployed.containers())
    assert set(found) == SERVICES
    assert {name: one["State"]["Health"]["Status"] for name, one in found.items()} == dict.fromkeys(SERVICES, "healthy")


def test_every_container_is_hardened(deployed: Stack) -> None:
    for name, found in deployed.containers():
        host, config = found["HostConfig"], found["Config"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["CapAdd"] is None, name
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), name
        assert not host["Privileged"], name
        user, group = config["User"].split(":")
        assert user.isdecimal(), name
        assert group.isdecimal(), name
        assert int(user) != 0, name
        assert host["Init"], name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        assert host["NanoCpus"] > 0, name
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}, name
        assert "size=" in host["Tmpfs"]["/tmp"], name
        assert "noexec" in host["Tmpfs"]["/tmp"], name
        assert config["Healthcheck"]["Test"][0] in ("CMD", "CMD-SHELL"), name
        assert config["Healthcheck"]["StartPeriod"] >= 60e9, name
        assert config["Healthcheck"]["Retries"] >= 3, name
        assert config["StopTimeout"] >= 30, name
        for bindings in (host["PortBindings"] or {}).values():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, name
    for name in ("worker-embed", "api"):
        assert {limit["Name"] for limit in deployed.inspect(name)["HostConfig"]["Ulimits"]} == {"memlock"}, name


def test_inside_nothing_can_be_written_but_the_data_folder(deployed: Stack) -> None:
    probe = (
        "for f in / /opt/venv /opt/kb-ingest /etc; do touch $f/x 2>/dev/null && echo $f; done; touch /data/x && rm /data/x; id -u"
    )
    assert deployed("exec", "-T", "worker-embed", "sh", "-c", probe).split() == [deployed.env["KB_UID"]]
    capabilities = deployed("exec", "-T", "worker-embed", "grep", "Cap", "/proc/1/status")
    assert {line.split()[1] for line in capabilities.splitlines()} == {"0" * 16}


def test_parsers_reach_no_network_but_their_own(deployed: Stack) -> None:
    parse, embed = deployed.inspect("worker-parse"), deployed.inspect("worker-embed")
    (network,) = parse["NetworkSettings"]["Networks"]
    assert json.loads(run("docker", "network", "inspect", network))[0]["Internal"] is True
    assert len(embed["NetworkSettings"]["Networks"]) == 2
    code = "import socket; socket.create_connection(('host.docker.internal', 1), 3)"
    refused = deployed("exec", "-T", "worker-parse", "python", "-c", code, status=1)
    assert refused == ""
    # The secrets of the stores are no business of what reads files of strangers.
    names = {line.partition("=")[0] for line in parse["Config"]["Env"]}
    assert not {"KB_API_KEY", "KB_EMBED_API_KEY"} & names


def test_documents_are_loaded_and_found(deployed: Stack) -> None:
    report = json.loads(deployed.cli("load", "/documents", "--json"))
    assert (report["indexed"], report["quarantined"]) == (7, 0)
    assert report["device"] == "cpu"
    (hit,) = json.loads(deployed.cli("search", "how many insects live in a hive", "--limit", "1", "--json"))
    assert hit["uri"] == "file:///documents/bees.txt"
    again = json.loads(deployed.cli("load", "/documents", "--json"))
    assert (again["unchanged"], again["chunks"]) == (7, 0)
    assert deployed.cli("verify") != ""
    assert (deployed.data / "kb.db").exists()
    assert any((deployed.data / "staging").rglob("*"))


def test_the_service_answers_on_the_configured_port_to_those_who_have_the_key(deployed: Stack) -> None:
    url, key = f"http://127.0.0.1:{deployed.env['KB_PORT']}", deployed.env["KB_API_KEY"]
    with urllib.request.urlopen(f"{url}/readyz", timeout=30) as answer:
        assert json.load(answer)["parts"]["model"] == "ok"

    def search(*headers: tuple[str, str]) -> list[dict[str, object]]:
        body = json.dumps({"query": "how many insects live in a hive", "limit": 1}).encode()
        request = urllib.request.Request(f"{url}/v1/search", body, {"content-type": "application/json", **dict(headers)})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return list(json.load(answer)["hits"])

    with pytest.raises(urllib.error.HTTPError, match="401"):
        search()
    (hit,) = search(("authorization", f"Bearer {key}"))
    assert hit["uri"] == "file:///documents/bees.txt"


def test_without_a_gpu_it_embeds_on_the_cpu_and_says_so(deployed: Stack) -> None:
    assert "no GPU can be used" in deployed.logs("worker-embed")
    assert "embedding on the CPU" in deployed.logs("worker-embed")


def test_doctor_finds_nothing_wrong(deployed: Stack) -> None:
    findings = {one["part"]: one for one in json.loads(deployed.cli("doctor", "--json"))}
    assert [name for name, one in findings.items() if one["state"] == "wrong"] == []
    assert "canary texts computed on cpu" in findings["device"]["text"]
    assert "Redis" in findings["broker"]["text"]


def test_the_dashboard_asks_who_is_there(deployed: Stack) -> None:
    url = f"http://127.0.0.1:{deployed.env['KB_FLOWER_PORT']}/workers"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url, timeout=10)
    key = b64encode(deployed.env["KB_FLOWER_AUTH"].encode()).decode()
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Basic {key}"}), timeout=10) as page:
        assert page.status == 200


def test_redis_and_qdrant_ask_for_their_keys(deployed: Stack) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{deployed.env['KB_QDRANT_PORT']}/collections", timeout=10)
    with socket.create_connection(("127.0.0.1", int(deployed.env["KB_REDIS_PORT"])), 10) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100).startswith(b"-NOAUTH")


def test_a_consumer_that_hangs_is_unhealthy_and_a_killed_one_is_replaced(deployed: Stack) -> None:
    found = "[p.pid for p in psutil.process_iter(['cmdline']) if 'workers.process.worker' in (p.info['cmdline'] or [])]"
    find = f"import psutil\nprint({found}[0])"
    consumer = deployed("exec", "-T", "worker-parse", "python", "-c", find).strip()
    deployed("exec", "-T", "worker-parse", "sh", "-c", f"kill -STOP {consumer}")
    check = ("exec", "-T", "worker-parse", "python", "-m", "workers.health", "/tmp/health")
    wait_until(lambda: "no heartbeat for" in deployed(*check, status=None), "it goes stale", 60, 2)
    deployed("exec", "-T", "worker-parse", "sh", "-c", f"kill -CONT {consumer}")
    wait_until(lambda: "healthy" in deployed(*check, status=None), "it is healthy again", 30, 1)
    deployed("exec", "-T", "worker-parse", "sh", "-c", f"kill -KILL {consumer}")
    wait_until(lambda: deployed("exec", "-T", "worker-parse", "python", "-c", find, status=None).strip() not in ("", consumer),
               "a new consumer", 60, 1)  # fmt: skip
    wait_until(lambda: "healthy" in deployed(*check, status=None), "it is healthy again", 60, 1)


@pytest.mark.parametrize("service", ["worker-embed", "worker-parse", "redis", "qdrant", "api"])
def test_what_is_killed_in_the_middle_of_a_load_comes_back_and_nothing_is_lost(deployed: Stack, service: str) -> None:
    folder = deployed.documents / service
    folder.mkdir()
    for count in range(40):
        (folder / f"{count}.md").write_text(
            f"# {service} {count}\n\n" + f"Sentence {count} about {service} and its restart. " * 200
        )
    deployed.cli("load", f"/documents/{service}", "--no-wait")
    process = deployed.inspect(service)["State"]["Pid"]
    time.sleep(1)
    # From outside of the container, as the kernel does it when memory runs out; `docker kill` would count as a wish to stop.
    os.kill(process, 9)
    wait_until(lambda: deployed.inspect(service)["State"]["Pid"] not in (0, process), f"{service} is started again", 60, 1)

    def settled() -> bool:
        status = deployed.cli("status", "--json", status=None)
        states = json.loads(status)["documents"] if status else {}
        return bool(states) and set(states) <= {"indexed", "skipped"}

    wait_until(settled, "all documents are indexed", 240, 3)
    deployed.cli("verify")


def test_the_data_folder_moves_to_another_host_and_to_another_image(deployed: Stack, image: str, tmp_path: Path) -> None:
    """Between two vendors nothing differs but the image of the embed worker; here both of them embed on the CPU."""
    before = json.loads(deployed.cli("search", "insects in a hive", "--limit", "3", "--json"))
    assert before
    deployed("down", "--timeout", "40")
    shutil.copytree(deployed.data, tmp_path / "moved", copy_function=shutil.copy2)
    if os.geteuid() == 0:
        for path in (tmp_path / "moved", *(tmp_path / "moved").rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)
    os.chmod(tmp_path, 0o755)
    run("docker", "tag", image, "kb-ingest:other-vendor")
    with Stack(tmp_path / "other", tmp_path / "moved", KB_IMAGE="kb-ingest:other-vendor") as other:
        other.documents.rmdir()
        shutil.copytree(deployed.documents, other.documents, copy_function=shutil.copy2)
        other.up()
        assert other.env["KB_API_KEY"] != deployed.env["KB_API_KEY"]
        after = json.loads(other.cli("search", "insects in a hive", "--limit", "3", "--json"))
        assert [hit["chunk_id"] for hit in after] == [hit["chunk_id"] for hit in before]
        report = json.loads(other.cli("load", "/documents", "--json"))
        assert (report["unchanged"], report["indexed"], report["chunks"]) == (report["discovered"], 0, 0)
        other.cli("verify")
    deployed.up()
