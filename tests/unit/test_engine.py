"""Docker Desktop's memory, with stand-ins for the programs of macOS that do to a folder what the real ones do to a machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.errors import HostError
from pipeline.host import engine

#: The daemon runs while `running` is there; it takes its memory from the settings when it starts.
DOCKER = """#!/bin/sh
[ -e running ] || exit 1
echo "{\\"ServerVersion\\": \\"29.0\\", \\"MemTotal\\": $(cat memory), \\"NCPU\\": 4, \\"OperatingSystem\\": \\"Docker Desktop\\"}"
"""
START = """#!/bin/sh
[ -e broken ] && grep -q 10240 "$SETTINGS" && exit 0
mib=$(grep -io '"memorymib": *[0-9]*' "$SETTINGS" | grep -o '[0-9]*$')
echo $((mib * 1048576)) > memory
touch running
"""
QUIT = "#!/bin/sh\n[ -e stubborn ] || rm -f running\n"
KILL = "#!/bin/sh\nrm -f running stubborn; touch killed\n"


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with Docker Desktop at 4 GB, running."""
    folder = tmp_path / "Library" / "Group Containers" / "group.com.docker"
    folder.mkdir(parents=True)
    settings = folder / "settings-store.json"
    settings.write_text(json.dumps({"AutoStart": True, "MemoryMiB": 4096}))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"docker": DOCKER, "open": START, "osascript": QUIT, "pkill": KILL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "running").touch()
    (tmp_path / "memory").write_text(str(4096 << 20))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SETTINGS", str(settings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "LOOK_S", 0.02)
    monkeypatch.setattr(engine, "START_S", 0.5)
    monkeypatch.setattr(engine, "QUIT_S", 1.0)
    return tmp_path


def desktop(home: Path, said: list[str]) -> engine.Desktop:
    return engine.Desktop(said.append, home=home, system="Darwin")


def settings_of(home: Path) -> dict[str, object]:
    text = (home / "Library/Group Containers/group.com.docker/settings-store.json").read_text()
    return dict(json.loads(text))


def test_memory_is_raised_and_the_daemon_is_back(mac: Path) -> None:
    said: list[str] = []
    backup = desktop(mac, said).set_memory(10 << 30)
    assert settings_of(mac) == {"AutoStart": True, "MemoryMiB": 10240}
    assert json.loads(backup.read_text())["MemoryMiB"] == 4096
    found = engine.engine()
    assert found is not None
    assert found.desktop
    assert found.memory_bytes == 10 << 30
    assert not (mac / "killed").exists()
    assert said[0].startswith("settings backed up")


def test_what_does_not_quit_is_ended_by_force(mac: Path) -> None:
    (mac / "stubborn").touch()
    desktop(mac, []).set_memory(10 << 30)
    assert (mac / "killed").exists()
    assert settings_of(mac)["MemoryMiB"] == 10240


def test_a_daemon_that_does_not_come_back_gets_its_settings_back(mac: Path) -> None:
    (mac / "broken").touch()
    said: list[str] = []
    with pytest.raises(HostError, match="does not answer after"):
        desktop(mac, said).set_memory(10 << 30)
    assert settings_of(mac)["MemoryMiB"] == 4096
    found = engine.engine()
    assert found is not None
    assert found.memory_bytes == 4 << 30
    assert "restoring the previous settings" in said[-1]


def test_settings_of_older_versions_and_damaged_ones(mac: Path) -> None:
    new = mac / "Library/Group Containers/group.com.docker/settings-store.json"
    old = new.with_name("settings.json")
    new.rename(old)
    old.write_text(json.dumps({"memoryMiB": 2048}))
    assert desktop(mac, []).memory_bytes() == 2048 << 20
    old.write_text("{")
    with pytest.raises(HostError, match="cannot read"):
        desktop(mac, []).set_memory(10 << 30)
    assert (mac / "running").exists()


def test_where_there_is_nothing_to_size(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no virtual machine to size"):
        engine.Desktop(print, home=tmp_path, system="Linux")
    with pytest.raises(HostError, match="has no settings"):
        engine.Desktop(print, home=tmp_path, system="Darwin")
    with pytest.raises(HostError, match="wslconfig"):
        engine.Desktop(print, home=tmp_path, system="Windows")


def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ("exit 1", "echo '{}'", "echo nonsense", 'echo \'{"ServerVersion": ""}\'', "echo '[]'"):
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert engine.engine() is None
