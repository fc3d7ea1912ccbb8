"""The host: what is read from the vendors' programs, which model fits, and what `.env` becomes."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import HostError
from pipeline.host import envfile, machine
from pipeline.host.command import output_of
from pipeline.host.machine import Accelerator, Machine
from pipeline.host.models import MODELS
from pipeline.host.recommend import MIN_CHUNKS_PER_S, format_size, parse_size, recommend

GIB = 1 << 30
LAPTOP = Machine("Linux", "a processor", 8, ("avx2",), 16 * GIB, 100 * GIB, ())

#: What the programs print, by their documentation.
NVIDIA = "NVIDIA H200, 143771\nNVIDIA GeForce RTX 4090, 24564\n"
ROCM = (
    '{"card0": {"Card Series": "AMD Instinct MI300X", "Card model": "0x74a1", "VRAM Total Memory (B)": "206141652992", '
    '"VRAM Total Used Memory (B)": "283"}, "card1": {"Card Series": "AMD Radeon W7900", "VRAM Total Memory (B)": "48301604864"}}'
)
APPLE = (
    '{"SPDisplaysDataType": [{"_name": "Apple M3 Max", "spdisplays_vendor": "sppci_vendor_Apple", "sppci_model": "Apple M3 Max"}]}'
)


@pytest.mark.parametrize(
    ("program", "answer", "found"),
    [
        ("nvidia-smi", NVIDIA, [("NVIDIA H200", "cuda", 143771 << 20), ("NVIDIA GeForce RTX 4090", "cuda", 24564 << 20)]),
        ("rocm-smi", ROCM, [("AMD Instinct MI300X", "cuda", 206141652992), ("AMD Radeon W7900", "cuda", 48301604864)]),
        ("system_profiler", APPLE, [("Apple M3 Max", "mps", None)]),
        ("nvidia-smi", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", []),
    ],
)
def test_the_vendors_programs_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, answer: str, found: list[tuple[str, str, int | None]]
) -> None:
    (tmp_path / "answer").write_text(answer)
    fake = tmp_path / program
    fake.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    seen = [one for probe in machine.probes() for one in machine.answered(probe, output_of(probe["command"]))]
    assert [(one.name, one.kind, one.memory_bytes) for one in seen] == found
    assert not any(one.usable for one in seen)


def test_a_program_that_hangs_or_fails_has_no_answer() -> None:
    assert output_of(["sleep", "5"], 0.1) is None
    assert output_of(["false"]) is None
    assert output_of(["no-such-program"]) is None
    assert output_of(["echo", "yes"]) == "yes\n"


def test_this_host_is_seen(tmp_path: Path) -> None:
    seen = machine.look(tmp_path / "not" / "there" / "yet")
    assert seen.cores >= 1
    assert seen.processor
    assert seen.memory_bytes > 1 << 28
    assert seen.disk_free_bytes > 0
    assert seen.system == "Linux" or seen.system


def test_more_memory_and_cores_never_give_a_worse_model() -> None:
    chosen = [
        MODELS.index(recommend(replace(LAPTOP, cores=cores, memory_bytes=memory * GIB)).model)
        for cores, memory in [(2, 2), (2, 4), (8, 8), (16, 16), (64, 64), (128, 256)]
    ]
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert chosen[-1] > 1


def test_a_processor_is_given_no_model_that_would_take_days() -> None:
    found = recommend(LAPTOP)
    assert found.device == "cpu"
    assert found.chunks_per_s is not None
    assert found.chunks_per_s >= MIN_CHUNKS_PER_S
    assert recommend(replace(LAPTOP, cores=1)).model is MODELS[0]


def test_a_gpu_that_torch_has_takes_the_best_model_that_fits_it() -> None:
    gpu = Accelerator("a GPU", "cuda", 80 * GIB, True)
    found = recommend(replace(LAPTOP, accelerators=(gpu,)))
    assert (found.device, found.model, found.dtype, found.embed_workers) == ("cuda", MODELS[-1], "bfloat16", 1)
    assert recommend(replace(LAPTOP, accelerators=(gpu, gpu))).embed_workers == 2
    assert found.token_budget > recommend(LAPTOP).token_budget
    assert found.chunks_per_s is None
    small = recommend(replace(LAPTOP, accelerators=(replace(gpu, memory_bytes=2 * GIB),)))
    assert small.model.device_bytes() <= 2 * GIB
    unusable = recommend(replace(LAPTOP, accelerators=(replace(gpu, usable=False),)))
    assert unusable.device == "cpu"


def test_limits_fit_and_a_model_that_is_in_use_stays() -> None:
    for memory in (8, 16, 64):
        found = recommend(replace(LAPTOP, memory_bytes=memory * GIB))
        assert found.docker_bytes <= memory * GIB
        assert parse_size(found.limits["KB_EMBED_MEMORY"]) > found.model.worker_bytes()
    assert recommend(replace(LAPTOP, memory_bytes=64 * GIB, cores=64), model=MODELS[0]).model is MODELS[0]


def test_on_a_mac_the_model_has_the_hosts_memory_and_services_have_dockers() -> None:
    mac = replace(LAPTOP, memory_bytes=64 * GIB, accelerators=(Accelerator("a chip", "mps", None, True),))
    native, contained = (recommend(mac, 4 * GIB, native=native) for native in (True, False))
    assert (native.device, native.model) == ("mps", MODELS[-1])
    assert native.docker_bytes <= 4 * GIB
    assert contained.model.worker_bytes() < native.model.worker_bytes()


@pytest.mark.parametrize(
    ("text", "size"), [("10g", 10 * GIB), ("512m", 1 << 29), ("1.5G", 3 * GIB // 2), ("8GiB", 8 * GIB), ("4096", 4096)]
)
def test_sizes_are_read_as_docker_writes_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "g", "ten", "-1g", "0", "nan", "1e99g"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        parse_size(text)
    assert parse_size(format_size(3 << 30)) == 3 << 30


def test_env_keeps_everything_that_is_not_set_anew(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nKB_MODEL=old\n#KB_DTYPE=float32\nexport OTHER='a b'\nKB_MODEL=older # which wins\n")
    backup = envfile.update(path, {"KB_MODEL": "new", "KB_DTYPE": "auto", "KB_API_KEY": "it's $x"}, comment="added")
    assert path.read_text().splitlines() == [
        "# mine", "KB_MODEL=old", "KB_DTYPE=auto", "export OTHER='a b'", "KB_MODEL=new", "", "# added", "KB_API_KEY='it\\'s $x'",
    ]  # fmt: skip
    assert envfile.read(path) == {"KB_MODEL": "new", "KB_DTYPE": "auto", "OTHER": "a b", "KB_API_KEY": "it's $x"}
    assert backup is not None
    assert "older" in backup.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_env_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot write"):
        envfile.update(tmp_path / "no" / "folder" / ".env", {"A": "b"}, comment="c")


def test_settings_read_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.settings import load_settings

    monkeypatch.chdir(tmp_path)
    envfile.update(tmp_path / ".env", {"KB_COLLECTION": "a b'c", "KB_API_KEY": "x$y#z"}, comment="c")
    settings = load_settings(data_dir=tmp_path)
    assert settings.collection == "a b'c"
    assert settings.api_key.get_secret_value() == "x$y#z"
