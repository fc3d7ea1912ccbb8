"""Flower's own pages in a real browser while a load goes on: workers, tasks, queues, and no word of a document."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import httpx
import pytest

from tests.embed_server import MODEL
from tests.services import REPOSITORY, Cli, Server, embed_server, free_port, redis_server, wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AUTH = ("kb", "of-flower@1")

#: In the text and in the name of each document.
TEXT, NAME = "TEXTCANARY", "namecanary"

DOCUMENTS, BATCH = 60, 4

#: Of each call of the model: there must be something to see.
EMBED_DELAY_S = 1.2

HOST = socket.gethostname()


@pytest.fixture
def cli(tmp_path: Path, qdrant: Server, unavailable: Callable[[str], NoReturn]) -> Iterator[Cli]:
    """A deployment whose Redis wants a password, with documents that wait to be parsed."""
    redis = redis_server(tmp_path / "redis", "--requirepass", "of-redis")
    if redis is None:
        unavailable("no redis-server on this machine")
    model = embed_server(tmp_path / "embed", delay_s=EMBED_DELAY_S)
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(DOCUMENTS):
        (folder / f"{NAME}-{number}.txt").write_text(f"Document {number} says {TEXT} and nothing else.")
    with ExitStack() as stack:
        for server in (redis, model):
            server.start()
            stack.callback(server.stop)
        made = Cli(
            tmp_path / "data", KB_REDIS_URL=f"redis://:of-redis@127.0.0.1:{redis.port}/3", KB_BATCH_DOCUMENTS=str(BATCH),
            KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}", KB_EMBED_URL=f"http://127.0.0.1:{model.port}",
            KB_EMBED_MODEL=MODEL, KB_EMBED_API="openai", KB_FLOWER_AUTH=":".join(AUTH), KB_PARSE_WORKERS="1",
        )  # fmt: skip
        made.run("load", str(folder), "--no-wait")
        yield made


@contextmanager
def running(cli: Cli, *arguments: str) -> Iterator[None]:
    """A command that runs until it is told to end, which it does in order."""
    process = cli.start(*arguments)
    try:
        yield
        assert process.poll() is None, process.communicate()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@contextmanager
def flower(cli: Cli) -> Iterator[str]:
    """The dashboard; its address with the password."""
    port = free_port()
    with running(cli, "flower", "--port", str(port)):
        wait_until(lambda: answers(port), "Flower answers")
        yield f"http://{AUTH[0]}:{AUTH[1].replace('@', '%40')}@127.0.0.1:{port}"


def answers(port: int) -> bool:
    """Whether Flower is there; no page of it, nor its figures, without a password."""
    try:
        pages = [httpx.get(f"http://127.0.0.1:{port}/{page}", timeout=30) for page in ("", "tasks", "api/tasks", "metrics")]
    except httpx.TransportError:
        return False
    assert [page.status_code for page in pages] == [401] * len(pages)
    for guess in ((AUTH[0], "guessed"), ("guest", "guest"), ("k\u00fc", AUTH[1])):
        assert httpx.get(f"http://127.0.0.1:{port}/workers", auth=guess, timeout=30).status_code == 401
    return True


def table(browser: Chrome, name: str) -> list[dict[str, str]]:
    """What a table of the page shows, by its headings."""
    script = """
        const table = document.getElementById(arguments[0]);
        const cells = (row, kind) => [...row.querySelectorAll(kind)].map(cell => cell.textContent.trim());
        if (!table.tHead || !table.tBodies.length) return [[]];  // its script is just making it
        return [cells(table.tHead.rows[0], "th"), ...[...table.tBodies[0].rows].map(row => cells(row, "td"))];
    """
    head, *rows = browser.execute_script(script, name)
    return [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)]


def queues(browser: Chrome, url: str) -> dict[str, tuple[int, int]]:
    """Queue -> messages that wait, and consumers, as the page says."""
    browser.get(f"{url}/broker")
    assert "of-redis" not in browser.page_source
    return {row["Queue"]: (int(row["Messages"]), int(row["Consumers"])) for row in table(browser, "queue-table")}


def in_truth(cli: Cli) -> dict[str, int]:
    """Queue -> messages that wait, as `kb-ingest status` says."""
    return {name: queue["depth"] for name, queue in cli.answer("status")["queues"].items()}


def tasks(browser: Chrome, url: str) -> list[dict[str, str]]:
    """What the page of tasks shows, once its table is filled."""
    browser.get(f"{url}/tasks")
    wait_until(lambda: bool(table(browser, "tasks-table")), "the table of tasks is filled")
    return table(browser, "tasks-table")


def top(browser: Chrome) -> WebElement:
    """What a picture shows: the page."""
    return browser.find_element("tag name", "body")


@pytest.mark.timeout(180)
def test_the_pages_during_a_load(cli: Cli, browser: Chrome, picture: Callable[..., Path]) -> None:
    batches = DOCUMENTS // BATCH
    with flower(cli) as url:
        # Nobody works yet: all waits for being parsed.
        assert queues(browser, url) == {"parse": (batches, 0), "embed": (0, 0), "tick": (0, 0)}
        assert in_truth(cli) == {"parse": batches, "embed": 0}
        with running(cli, "scheduler"), running(cli, "worker", "--stage", "parse"):
            # Nobody embeds yet: all waits for that. Consumers are seen a little later than what they do.
            expected = {"parse": (0, 1), "embed": (batches, 0), "tick": (0, 1)}
            wait_until(lambda: queues(browser, url) == expected, "all is parsed", 60, 0.5)
            picture(top(browser), "flower-broker")
            assert in_truth(cli) == {"parse": 0, "embed": batches}
            with running(cli, "worker", "--stage", "embed"):
                names = {f"parse@{HOST}", f"embed-http@{HOST}", f"tick@{HOST}"}
                browser.get(f"{url}/workers")
                wait_until(
                    lambda: {row["Worker"] for row in table(browser, "workers-table") if row["Status"] == "Online"} == names,
                    "all workers are online", 60,
                )  # fmt: skip
                assert {worker["name"] for worker in cli.answer("status")["workers"]} == names
                found = {row["Worker"]: row for row in table(browser, "workers-table")}
                assert found[f"parse@{HOST}"]["Succeeded"] == str(batches)
                wait_until(
                    # One task may go on with the documents of all others, so none need have succeeded while it is active.
                    lambda: any(max(row["Active"], row["Succeeded"]) > "0" for row in table(browser, "workers-table")
                                if row["Worker"].startswith("embed")),
                    "the embed worker does something", 30, 0.05,
                )  # fmt: skip
                picture(top(browser), "flower-workers")

                def embedded() -> int:
                    rows = tasks(browser, url)
                    return sum(row["Name"] == "kb.embed" and row["State"] == "SUCCESS" for row in rows)

                browser.set_window_size(1400, 900)  # the identifiers would be cut off
                wait_until(lambda: embedded() > 1, "tasks of both kinds", 60, 0.2)
                picture(top(browser), "flower-tasks")
                seen = browser.page_source
                wait_until(lambda: cli.answer("status")["documents"] == {"indexed": DOCUMENTS}, "all is indexed", 60, 0.3)
        listed = httpx.get(f"{url}/api/tasks", timeout=30)
        every = listed.json().values()
        assert {(task["name"], task["args"]) for task in every} == {
            ("kb.parse", f"parse {BATCH} documents of run 1"), ("kb.embed", f"embed {BATCH} documents of run 1"),
        }  # fmt: skip
        assert {task["state"] for task in every} == {"SUCCESS"}
        browser.get(f"{url}/task/{next(iter(listed.json()))}")
        for page in (seen, listed.text, browser.page_source, httpx.get(f"{url}/workers?json=1", timeout=30).text):
            assert "embed" in page or "parse" in page
            assert not any(canary in page for canary in (TEXT, NAME))

    # What was seen is kept: another Flower, after all workers have gone.
    with flower(cli) as url:
        again = tasks(browser, url)
        assert {row["args"] for row in again} <= {task["args"] for task in every}
        assert len(httpx.get(f"{url}/api/tasks", timeout=30).json()) == 2 * batches


@pytest.mark.timeout(90)
def test_a_configuration_of_another_flower_lets_nobody_in(tmp_path: Path, redis: Server) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "flowerconfig.py").write_text('basic_auth = ["guest:guest"]')
    cli = Cli(tmp_path / "data", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", KB_FLOWER_AUTH=":".join(AUTH))
    cli.environment["PYTHONPATH"] = str(REPOSITORY)
    cli.prefix = ("env", "--chdir", str(elsewhere))
    with flower(cli) as url:
        assert httpx.get(f"{url}/workers", timeout=30).status_code == 200
