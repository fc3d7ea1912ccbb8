"""Ids that every process derives, and what happens where there is nothing to send with or to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import Settings, load_settings
from pipeline.telemetry.otlp import address_of, headers_of
from pipeline.telemetry.spans import Span, Tracing, Version
from pipeline.telemetry.tracing import check_tracing, endpoint_of, open_tracing
from workers.process.supervisor import environment_of

VERSION = Version("008062c9-a402-5062-b966-2dd2d8fff4c2", "file:///a.md", "docs", 3, "f" * 64, 10)

#: Has every import of opentelemetry fail, as where the extra is not installed.
WITHOUT_EXTRA = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from workers.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_ids_hang_on_document_bytes_and_run_alone() -> None:
    # Written down: processes of two versions of kb-ingest may work on one document.
    assert f"{VERSION.trace_id():032x}" == "4476683341ac4f94e303a581f22688f5"
    assert f"{VERSION.root_id():016x}" == "2e9febb807ab13e3"
    same = replace(VERSION, uri="file:///moved.md", collection="docs@2", size=11)
    assert (same.trace_id(), same.root_id()) == (VERSION.trace_id(), VERSION.root_id())
    others = [replace(VERSION, run=4), replace(VERSION, content_hash="e" * 64), replace(VERSION, document="other")]
    assert len({one.trace_id() for one in [VERSION, *others]}) == 4
    assert len({one.root_id() for one in [VERSION, *others]}) == 4


def test_fields_do_not_run_into_each_other() -> None:
    one, other = replace(VERSION, run=11, content_hash="a"), replace(VERSION, run=1, content_hash="a1")
    assert one.trace_id() != other.trace_id()


def test_without_an_endpoint_nothing_is_imported_and_nothing_happens() -> None:
    code = (
        "import sys\n"
        "from pipeline.settings import load_settings\n"
        "from pipeline.telemetry.tracing import open_tracing\n"
        "import pipeline.steps.index, pipeline.steps.load, workers.process.worker\n"
        "tracing = open_tracing(load_settings(), 'x')\n"
        "assert not tracing.on\n"
        # Parts of it are imported by redis, where it is installed.
        "assert not any(name.startswith(('opentelemetry.exporter', 'opentelemetry.sdk.trace')) for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    tracing = open_tracing(Settings(), "x")
    assert type(tracing) is Tracing
    tracing.send(VERSION, Span("load", 1, 2))
    tracing.close()


def test_a_warning_about_lost_spans_has_neither_key_nor_user(caplog: pytest.LogCaptureFixture) -> None:
    """Real words of a real HTTP client that reaches nobody."""
    tracing = open_tracing(Settings(otlp_endpoint="http://TOKEN:PASSWORD@127.0.0.1:9/v1/traces?api_key=KEY"), "x")
    tracing.send(VERSION, Span("load", 1, 2))
    tracing.close()
    for _ in range(100):
        if "spans are lost" in caplog.text:
            break
        time.sleep(0.1)
    (said,) = [record.getMessage() for record in caplog.records if "spans are lost" in record.getMessage()]
    assert said.startswith("spans are lost: http://TOKEN:****@127.0.0.1:9/v1/traces?api_key=**** does not accept them: ")
    assert "/v1/traces?****" in said.partition("accept them: ")[2]
    assert "KEY" not in said
    assert "PASSWORD" not in said


@pytest.mark.parametrize("command", [["load"], ["up"]])
def test_a_missing_extra_is_one_line_that_names_it(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("A text.")
    arguments = ["--data-dir", str(tmp_path / "data"), *command, *([str(tmp_path / "a.md")] if command == ["load"] else [])]
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, "--log-level", "error", *arguments],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "KB_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
    )  # fmt: skip
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: KB_OTLP_ENDPOINT")
    assert "`otel`" in line


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://user:hunter2@host:4317"])
def test_an_endpoint_of_another_kind_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="KB_OTLP_ENDPOINT") as caught:
        check_tracing(Settings(otlp_endpoint=endpoint))
    assert "hunter2" not in str(caught.value)


def test_one_that_was_set_for_all_programs_is_only_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://user:hunter2@host:4317")
    settings = load_settings()
    check_tracing(settings)
    assert type(open_tracing(settings, "x")) is Tracing
    assert endpoint_of(settings) == ""
    (record,) = caplog.records
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in record.getMessage()
    assert "hunter2" not in record.getMessage()
    assert "KB_OTLP_ENDPOINT" not in environment_of(settings)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://host:4318")
    assert endpoint_of(load_settings()) == "http://host:4318"
    monkeypatch.setenv("KB_OTLP_ENDPOINT", "host:4317")
    assert environment_of(load_settings())["KB_OTLP_ENDPOINT"] == "host:4317"
    with pytest.raises(ConfigError, match="KB_OTLP_ENDPOINT"):
        check_tracing(load_settings())


def test_endpoints_are_given_with_or_without_the_path() -> None:
    assert address_of("http://h:4318") == address_of("http://h:4318/") == "http://h:4318/v1/traces"
    assert address_of("https://h/otlp") == "https://h/otlp/v1/traces"
    assert address_of("https://h/v1/traces?tenant=a") == "https://h/v1/traces?tenant=a"
    assert address_of("https://h/v1/traces/") == "https://h/v1/traces"
    assert address_of("https://h/otlp/?tenant=a") == "https://h/otlp/v1/traces?tenant=a"


def test_headers_are_read_as_opentelemetry_writes_them() -> None:
    assert headers_of("Authorization=Basic%20YTpi==, x-key = a b ,nothing,=x") == {
        "authorization": "Basic YTpi==", "x-key": "a b",
    }  # fmt: skip
    assert headers_of("") == {}
