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


def test_what_may_not_be_opened_is_named(documents: Path, data_dir: Path, unavailable: Callable[[str], NoReturn]) -> None:
    without: list[str] = []
    if os.geteuid() == 0:  # whom no right is denied otherwise
        program = shutil.which("setpriv")
        if program is None:
            unavailable("no setpriv on this machine")
        without = [program, "--bounding-set=-dac_override,-dac_read_search"]
    places = [path.relative_to(data_dir) for path in sorted(data_dir.rglob("*")) if not {"segments", "blobs"} & {*path.parts[:-1]}]
    assert {"kb.db", "staging/tmp", "broker/queue", "qdrant/turn.lock"} <= set(map(str, places))
    answer = subprocess.run(
        [*without, sys.executable, "-c", DENIED, str(data_dir), str(documents), *map(str, places)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    found: dict[str, tuple[int, str]] = json.loads(answer.stdout)
    denied = {place: text for place, (status, text) in found.items() if status}
    for place, text in denied.items():
        assert "fault of kb-ingest" not in text, place
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
        "staging/blobs load",
        "broker load",
        "qdrant search",
        "qdrant/turn.lock search",
        "qdrant/aliases.json search",
        "qdrant/aliases.json verify",
    }


@pytest.mark.parametrize("command", ["load {}", "worker --stage parse", "up --yes"])
def test_the_lock_of_workers_is_named(documents: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    (data_dir / "workers.lock").mkdir()
    assert run(command.format(documents).split()) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: cannot use {data_dir}/workers.lock: Is a directory; move the folder away that is in the place of a file"
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
