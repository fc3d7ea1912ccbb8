"""Many processes at the same ledger: nobody gets a document twice."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from pipeline.types import SourceFile, StagedFile, document_id
from tests.faults.conftest import SEED

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]

COUNT = 1000

CLAIM = """
import random, sys
from pipeline.ledger import Ledger
from pipeline.types import Stage

ledger, ids = Ledger.open(sys.argv[1]), sys.argv[3].split()
random.Random(int(sys.argv[2])).shuffle(ids)
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, len(ids), 5):
    for document in ledger.work.claim(Stage.PARSE, ids[start : start + 5], "w").documents:
        print(document.id)
"""

DISPATCH = """
import random, sys, time
from pipeline.ledger import Ledger
from pipeline.types import Stage

ledger = Ledger.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while batches := ledger.flow.take(Stage.PARSE, documents_max=8, batch_documents=4, batch_bytes=1 << 20):
    for batch in batches:
        print(*batch.document_ids, sep="\\n")
    time.sleep(random.uniform(0, 0.01))  # SQLite is not fair: one of them might take everything
"""


def run(code: str, url: str, ids: list[str], processes: int) -> list[list[str]]:
    """What each of some processes gets that begin at the same moment."""
    seeds = random.Random(SEED)
    commands = [[sys.executable, "-c", code, url, str(seeds.randrange(1 << 32)), " ".join(ids)] for _ in range(processes)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in commands]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    got = [process.communicate(timeout=120)[0].split() for process in started]
    assert [process.returncode for process in started] == [0] * processes
    return got


@pytest.mark.parametrize(("code", "processes"), [(CLAIM, 8), (DISPATCH, 4)], ids=["8 claiming", "4 dispatching"])
def test_no_document_is_given_twice(tmp_path: Path, code: str, processes: int) -> None:
    print(f"seed {SEED}")
    url = f"sqlite:///{tmp_path / 'kb.db'}"
    ledger = Ledger.open(url)
    sources = [SourceFile(f"file:///doc/{number}", Path(f"/doc/{number}"), 10, 1) for number in range(COUNT)]
    staged = {document_id("docs", source.uri): StagedFile(source, f"{number:064x}", "") for number, source in enumerate(sources)}
    ledger.intake.record_staged("docs", ledger.runs.start("docs"), staged)
    ledger.close()
    got = run(code, url, list(staged), processes)
    assert sorted(key for mine in got for key in mine) == sorted(staged)
    assert sum(bool(mine) for mine in got) > 1, "they did not compete"
