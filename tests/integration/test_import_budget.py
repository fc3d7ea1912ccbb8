"""What commands import: libraries that take seconds only where they are needed, those of other people's needs nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import Cli

pytestmark = pytest.mark.integration

#: Needed by sentence-transformers and transformers, which run unusual models, and not the default one.
NEVER = {
    "sentence_transformers",
    "transformers",
    "sklearn",
    "scipy",
    "pandas",
    "matplotlib",
    "rapidocr",
    "onnxruntime",
    "cv2",
    "PIL",
}

#: Needed by `serve` and `mcp` alone.
SERVICE = {"fastapi", "starlette", "uvicorn", "python_multipart", "mcp", "mcp_types"}

#: Needed by whatever computes many vectors in its own process.
MODEL = {"torch"}

#: Needed only where something is asked over HTTP: without a server or endpoint it need not even be installed.
HTTP = {"httpx"}

#: Runs a command and ends stderr with the names of the packages that are loaded in the command's own process.
COMMAND = """
import sys
from workers.cli import run
status = run(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(status)
"""


class Counted(Cli):
    """A command line whose commands tell what they imported."""

    PROGRAM = (sys.executable, "-c", COMMAND)

    def imported(self, *arguments: str) -> set[str]:
        return set(self.run(*arguments).stderr.splitlines()[-1].split())


@pytest.mark.slow
def test_commands_import_no_more_than_they_need(data_dir: Path, documents: Path) -> None:
    cli = Counted(data_dir, KB_DEVICE="cpu", KB_OCR="auto")
    load = cli.imported("load", str(documents))
    assert {"celery", "sqlalchemy"} <= load  # that the names are those of the command
    assert not load & (NEVER | SERVICE | MODEL)

    assert not cli.imported("search", "when should I water the plants?") & (NEVER | SERVICE | MODEL | HTTP)
    assert not cli.imported("search", "water", "--mode", "sparse") & (NEVER | SERVICE | MODEL | HTTP)

    assert not cli.imported("status") & (NEVER | SERVICE | MODEL)
    # The second time: nothing is left to do, and no worker starts.
    assert not cli.imported("load", str(documents)) & (NEVER | SERVICE | MODEL)


def test_parsers_import_no_library_of_models() -> None:
    code = (
        "import sys, pipeline.sandbox.server, pipeline.parse\n"
        "pipeline.parse.preload(pipeline.parse.MEDIA_TYPES)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())
    assert {"lxml", "pypdfium2", "markdown_it"} <= loaded
    assert "unstructured" not in loaded
    assert not loaded & NEVER
