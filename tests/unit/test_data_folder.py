"""A data folder that this user may not use: one line that names the file, the reason and what to do, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.ledger import Ledger
from pipeline.store.edge import EdgeStore
from tests.conftest import REPOSITORY
from workers.cli import run

#: Takes every right away from each of the paths in turn, and runs commands; prints what they said, by path and command.
DENIED = """
import contextlib, io, json, stat, sys
from pathlib import Path
from workers.cli import run

data, documents = Path(sys.argv[1]), Path(sys.argv[2])
found = {}
for path in [data, *(data / name for name in sys.argv[3:])]:
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0)
    try:
        for command in ("search bees --mode sparse", "verify", f"load {documents} --no-wait --checksum"):
            (documents / "new.md").write_text(f"# New\\n\\nWritten for {path.name} and {command}.\\n")
            err = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
                status = run(command.split())
            found[f"{path.relative_to(data)} {command.split()[0]}"] = [status, err.getvalue()]
    finally:
        path.chmod(mode)
print(json.dumps(found))
"""


#: Asks what looks at a data folder without opening it.
LOOKED_AT = """
import sys
from pathlib import Path
from pipeline.chunk.file import read_header
from pipeline.errors import ConfigError
from pipeline.host.machine import free_bytes
from pipeline.model.files import resolve_limit, resolve_model, resolve_tokenizer
from pipeline.settings import load_settings
from workers.deploy.env import collections_of

closed = Path(sys.argv[1])
settings = load_settings(data_dir=closed / "data", model=sys.argv[2])
print(collections_of(settings))
for look in (
    lambda: free_bytes(closed / "data"), lambda: read_header(closed / "chunks"), lambda: resolve_model(settings),
    lambda: resolve_tokenizer(settings), lambda: resolve_limit(settings),
):
    try:
        look()
    except ConfigError as error:
        print(error)
"""


@pytest.fixture
def without_rights(unavailable: Callable[[str], NoReturn]) -> list[str]:
    """What starts a program without the rights of root, whom nothing is denied otherwise; nothing for other users."""
    if os.geteuid() != 0:
        return []
    program = shutil.which("setpriv")
    if program is None:
        unavailable("no setpriv on this machine")
    return [program, "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture
def documents(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder that was staged into a data folder with a collection in its store."""
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "bees.md").write_text("# Bees\n\nThey visit flowers.\n")
    assert run(["load", str(folder), "--no-wait"]) == 0
    capsys.readouterr()
    ledger = Ledger.open(f"sqlite:///{data_dir / 'kb.db'}")
    made = ledger.collections.live("documents")
    ledger.close()
    assert made is not None
    store = EdgeStore(data_dir / "qdrant", role="owner")
    store.create(made.physical, made.dimension)
    store.set_alias(made.name, made.physical)
    store.count(made.physical)
    store.close()
    return folder


@pytest.mark.slow
def test_what_may_not_be_opened_is_named(documents: Path, data_dir: Path, without_rights: list[str]) -> None:
    places = [
        path.relative_to(data_dir)
        for path in sorted(data_dir.rglob("*"))
        if not {"segments", "blobs", "chunks"} & {*path.parts[:-1]}
    ]
    assert {"kb.db", "staging/tmp", "broker/queue", "qdrant/turn.lock"} <= set(map(str, places))
    answer = subprocess.run(
        [*without_rights, sys.executable, "-c", DENIED, str(data_dir), str(documents), *map(str, places)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    found: dict[str, tuple[int, str]] = json.loads(answer.stdout)
    denied = {place: text for place, (status, text) in found.items() if status}
    for place, text in denied.items():
        assert "bug in kb-ingest" not in text, place
        assert "Traceback" not in text, place
        last = text.splitlines()[-1]
        assert last.startswith("error: cannot "), place
        assert f" {data_dir}" in last, place
        assert "Permission denied" in last or "unable to open" in last, place
        assert "KB_DATA_DIR" in last, place
    assert set(denied) >= {
        "kb.db verify",
        "kb.db load",
        "staging load",
        "staging/tmp load",
        "staging/packs/blobs load",
        "broker load",
        "qdrant search",
        "qdrant/turn.lock search",
        "qdrant/aliases.json search",
        "qdrant/aliases.json verify",
    }


def test_what_may_not_be_looked_at_is_named(tmp_path: Path, without_rights: list[str]) -> None:
    closed, model = tmp_path / "closed", tmp_path / "model"
    for folder in (closed, model):
        folder.mkdir()
    for file in (closed / "chunks", model / "config.json", model / "tokenizer.json", model / "x.safetensors"):
        file.touch()
    (model / "config.json").chmod(0)
    closed.chmod(0)
    try:
        answer = subprocess.run(
            [*without_rights, sys.executable, "-c", LOOKED_AT, str(closed), str(model)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        closed.chmod(0o755)
    nothing, *said = answer.stdout.splitlines()
    assert nothing == "[]"
    named = [closed / "data", closed / "chunks", model / "config.json", model / "config.json"]
    assert [line.partition(": Permission denied; ")[0] for line in said] == [f"cannot use {path}" for path in named]


@pytest.mark.parametrize("command", ["load {}", "worker --stage parse", "up --yes"])
def test_the_lock_of_workers_is_named(documents: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    (data_dir / "workers.lock").mkdir()
    assert run(command.format(documents).split()) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: cannot use {data_dir}/workers.lock: Is a directory; move away the folder that takes the place of a file"
    )


def test_a_log_that_cannot_be_written_keeps_no_worker_from_its_work(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the place of the folder")
    code = (
        "import os, sys; from pathlib import Path; from workers import logs; logs.set_up('info'); "
        "logs.divert(Path(sys.argv[1])); os.write(2, b'noise'); print('noise'); logs.log.info('work')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "logs" / "parse.log")]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    said = answer.stderr.splitlines()
    assert len(said) == 2
    assert f"cannot use {tmp_path}/logs" in said[0]
    assert said[1].endswith("work")
    assert answer.stdout == ""
