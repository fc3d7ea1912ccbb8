"""Services that several unit tests share, and the stores of the contract: embedded, and the client of a server.

The server is KB_TEST_QDRANT_URL (with KB_TEST_QDRANT_API_KEY) where set, else a container where an engine has the image,
else the REST stand-in of tests/qdrant_rest.py. The id of each test names which it was.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typing_extensions import override

from pipeline.ledger import Ledger
from pipeline.store.base import Role, VectorStore
from pipeline.store.edge import EdgeStore
from pipeline.store.server import ServerStore
from tests.made_points import DIMENSION
from tests.qdrant_rest import QdrantRest
from tests.services import Postgres, make_bucket, s3_environment, s3_server


def container_image() -> str:
    """The Qdrant image that a container engine of this host holds; empty where there is none. Never pulls."""
    if not engine_listens():
        return ""
    import docker.errors
    from docker import DockerClient

    try:
        client = DockerClient.from_env(timeout=5)
    except docker.errors.DockerException:
        return ""
    try:
        tags: list[str] = [tag for image in client.images.list(name="qdrant/qdrant") for tag in image.tags]
    except docker.errors.DockerException:
        return ""
    finally:
        client.close()
    return max(tags, default="")


def engine_listens() -> bool:
    """Whether something accepts connections where a container engine would; asked first because it never hangs."""
    place = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    family = socket.AF_UNIX if place.scheme == "unix" else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        try:
            probe.connect(place.path if family == socket.AF_UNIX else (place.hostname or "", place.port or 2375))
        except OSError:
            return False
    return True


def server_kind() -> str:
    """Which server these tests run against."""
    if os.environ.get("KB_TEST_QDRANT_URL"):
        return "url"
    image = container_image()
    return f"container-{image}" if image else "rest-stand-in-over-edge"


SERVER_KIND = server_kind()


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if SERVER_KIND == "url":
        yield os.environ["KB_TEST_QDRANT_URL"]
    elif SERVER_KIND.startswith("container-"):
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.core.container import DockerContainer
        from testcontainers.core.wait_strategies import HttpWaitStrategy

        ready = HttpWaitStrategy(6333, "/readyz").with_startup_timeout(60)
        with DockerContainer(SERVER_KIND.removeprefix("container-")).with_exposed_ports(6333).waiting_for(ready) as container:
            yield f"http://{container.get_container_host_ip()}:{container.get_exposed_port(6333)}"
    else:
        with QdrantRest(tmp_path_factory.mktemp("rest")) as server:
            yield server.url


class AskingStore(EdgeStore):
    """An embedded store whose new collections another one has open, which stands for another process: it has files of its own."""

    def __init__(self, folder: Path, *, role: Role, batch_points: int) -> None:
        super().__init__(folder, role=role, batch_points=batch_points)
        self._other = EdgeStore(folder, role="owner")

    @override
    def create(self, physical: str, dimension: int, *, parts: bool = False) -> None:
        super().create(physical, dimension, parts=parts)
        self._other.count(physical)

    @override
    def close(self) -> None:
        super().close()
        self._other.close()


@pytest.fixture(
    params=[
        pytest.param(("edge", "owner"), id="edge-owner"),
        pytest.param(("edge", "reader"), id="edge-reader"),
        pytest.param(("asking", "reader"), id="edge-asking"),
        pytest.param(("server", ""), id=f"server[{SERVER_KIND}]"),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    kind, role = request.param
    opened: VectorStore
    if kind in ("edge", "asking"):
        opened = {"edge": EdgeStore, "asking": AskingStore}[kind](tmp_path / "qdrant", role=role, batch_points=100)
    else:
        key = os.environ.get("KB_TEST_QDRANT_API_KEY", "")
        opened = ServerStore(request.getfixturevalue("server_url"), key, allow_insecure=True, retry_s=5, batch_points=100)
    yield opened
    opened.close()


@pytest.fixture
def new_name(store: VectorStore) -> Iterator[Callable[[], str]]:
    """Makes names for collections that are gone after the test: a real server may be shared."""
    names: list[str] = []

    def make() -> str:
        names.append(f"kb-test-{uuid.uuid4().hex[:12]}")
        return names[-1]

    yield make
    for name in names:
        store.drop(name)


@pytest.fixture
def name(store: VectorStore, new_name: Callable[[], str]) -> str:
    physical = new_name()
    store.create(physical, DIMENSION)
    return physical


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'kb.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.schema()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger.open(url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What finds an S3 server with an empty bucket `kb-unit`."""
    server = s3_server(tmp_path_factory.mktemp("s3"))
    server.start()
    environment = s3_environment(server)
    make_bucket(environment, "kb-unit")
    yield environment
    server.stop()
