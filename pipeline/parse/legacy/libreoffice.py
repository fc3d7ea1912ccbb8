"""LibreOffice, which converts old Word and PowerPoint files: where it is, and a running one for each parser's process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from functools import cache
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse.legacy.converter import LIBRARIES
from pipeline.types import UNREAD, Program, Reason

#: What installs it where it is missing.
INSTALL = "apt-get install --no-install-recommends libreoffice-writer libreoffice-impress libreoffice-math"
#: Where LibreOffice lies without being on the path.
_USUAL = ("/usr/lib/libreoffice/program", "/usr/lib64/libreoffice/program", "/opt/libreoffice/program")
#: The window of a comment: without it, as in Debian's packages that end in -nogui, no document with comments can be opened.
_COMMENTS = "../share/config/soffice.cfg/modules/swriter/ui/annotation.ui"
#: Documents after which it is started again: what one leaves in memory stays there.
MAX_DOCUMENTS = 200
#: Settings of its profile: no macro runs, and nothing outside the document is read.
_SETTINGS = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Common/Security/Scripting">
<prop oor:name="DisableMacrosExecution" oor:op="fuse"><value>true</value></prop>
<prop oor:name="BlockUntrustedRefererLinks" oor:op="fuse"><value>true</value></prop>
<prop oor:name="DisableActiveContent" oor:op="fuse"><value>true</value></prop>
</item>
</oor:items>
"""


@cache
def program_folder() -> str:
    """The folder with LibreOffice's libraries; empty where it is not installed, not whole, or not for Linux."""
    if not sys.platform.startswith("linux"):
        return ""
    found = (shutil.which(name) for name in ("soffice", "libreoffice"))
    folders = [str(Path(os.path.realpath(path)).parent) for path in found if path] + list(_USUAL)
    return next(filter(_is_whole, folders), "")


def _is_whole(folder: str) -> bool:
    return any(Path(folder, name).is_file() for name in LIBRARIES) and Path(folder, _COMMENTS).is_file()


def convert(path: Path, form: str, folder: Path) -> Path:
    """Convert the document at `path` to a file of the format `form` in `folder`.

    Raises DocumentError: UNSUPPORTED where LibreOffice is not installed, CORRUPT, CRASHED.
    """
    if not (program := program_folder()):
        kind = UNREAD[Program.LIBREOFFICE][form == "pptx"]
        where = INSTALL if sys.platform.startswith("linux") else "only Linux has the LibreOffice that it needs"
        raise DocumentError(Reason.UNSUPPORTED, f"{kind}; to read it: {where}")
    source, target = folder / "document", folder / f"converted.{form}"
    source.symlink_to(path.resolve())  # the name of a document may be any
    if wrong := _converted(program, source, target, form):
        raise DocumentError(Reason.CORRUPT, f"LibreOffice: {wrong}")
    return target


def _converted(program: str, source: Path, target: Path, form: str) -> str:
    """What is wrong with a document; one at which a used LibreOffice ends is given to a new one: others may have spent its time."""
    if _running and _running[0].usable():
        try:
            return _running[0].converted(source, target, form)
        except DocumentError:
            target.unlink(missing_ok=True)
    _running[:] = [_LibreOffice(program)]
    return _running[0].converted(source, target, form)


class _LibreOffice:
    """A running LibreOffice with a profile of its own."""

    def __init__(self, program: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="libreoffice-"))
        settings = folder / "profile" / "user" / "registrymodifications.xcu"
        settings.parent.mkdir(parents=True)
        settings.write_text(_SETTINGS, "utf-8")
        # Without this the folder of a test or a program would stay; that of a guarded process goes with its own folder.
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._owner, self._documents = os.getpid(), 0
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("converter.py")), program, (folder / "profile").as_uri()],
            cwd=folder,
            env={"HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8", "PATH": os.defpath, "SAL_USE_VCLPLUGIN": "svp"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        weakref.finalize(self, _end, self._process)

    def usable(self) -> bool:
        """Whether it can take a further document; a process that was forked from its owner has none."""
        return self._owner == os.getpid() and self._process.poll() is None and self._documents < MAX_DOCUMENTS

    def converted(self, source: Path, target: Path, form: str) -> str:
        """What is wrong with a document; empty where it was converted. Raises DocumentError (crashed) where it ends meanwhile."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._documents += 1
        request = {"source": source.as_uri(), "target": target.as_uri(), "form": form}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            status = self._process.wait()
            ended = f"signal {-status}" if status < 0 else f"status {status}"
            raise DocumentError(Reason.CRASHED, f"LibreOffice ended with {ended}")
        return str(json.loads(answer)["wrong"])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


#: The LibreOffice of this process; it ends with it.
_running: list[_LibreOffice] = []
