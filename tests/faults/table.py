"""Prints the figures of a run of the fault suite as a Markdown table: `python -m tests.faults.table FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

COLUMNS = ("fault", "runs", "documents", "lost", "missing", "extra", "worst_recovery_s")


def table(lines: list[str]) -> str:
    """A row for each fault."""
    rows = [json.loads(line) for line in lines if line.strip()]
    text = ["| " + " | ".join(name.replace("_s", ", s").replace("_", " ") for name in COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    text += [
        "| " + " | ".join(str(row[name]) for name in COLUMNS) + " |" for row in sorted(rows, key=lambda row: str(row["fault"]))
    ]
    return "\n".join(text)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text("utf-8").splitlines()))
