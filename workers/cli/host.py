"""`kb-ingest init`, `assess`, `doctor`, `docker-memory`, `compose`: set up and check this host."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from pipeline.text import memory, plural
from workers.cli.context import Context, print_json, say
from workers.cli.options import json_option

if TYPE_CHECKING:
    from pipeline.host.engine import Engine
    from pipeline.host.machine import Machine
    from pipeline.host.recommend import Recommendation
    from pipeline.settings import Settings

#: The file in the working directory that both compose and kb-ingest read.
ENV = Path(".env")


@click.command()
@click.option("--native", is_flag=True, help="Run only Redis and Qdrant in containers; workers run on this host.")
@click.pass_obj
def init(context: Context, native: bool) -> None:
    """Write `.env` for `docker compose up -d`: passwords, folders, users and limits. Existing values are kept."""
    from pipeline.host import engine, envfile, machine, recommend
    from pipeline.host.models import MODELS, card_of
    from workers.deploy.env import initial, make_folders

    env = envfile.read(ENV)
    values = initial(env, Path.cwd(), native=native, data_dir=context.data_dir)
    every = env | values
    seen, docker = machine.look(Path(every["KB_DATA_DIR"])), engine.engine()
    kept = card_of(env.get("KB_MODEL", "")) or MODELS[0]
    found = recommend.recommend(seen, docker.memory_bytes if docker else None, kept, native=native)
    values |= {name: value for name, value in found.limits.items() if not env.get(name)}
    if values:
        envfile.update(ENV, values, comment="written by `kb-ingest init`")
    make_folders(Path(every["KB_DATA_DIR"]), Path(every["KB_DOCUMENTS"]), int(every["KB_UID"]), int(every["KB_GID"]))
    click.echo(f"{ENV.absolute()}: {plural(len(values), 'value')} set, {len(env)} kept; data folder {every['KB_DATA_DIR']}")
    click.echo(f"next: {'docker compose up -d && kb-ingest up' if native else 'docker compose build && docker compose up -d'}")
    if not native and not every.get("KB_CPU_TORCH_INDEX"):
        click.echo("set KB_CPU_TORCH_INDEX in .env to make the image several gigabytes smaller (docs/deployment.md, Images)")


@click.command()
@click.option("--write", is_flag=True, help="Write the recommendation to .env; the previous file is kept as a backup.")
@json_option
@click.pass_obj
def assess(context: Context, write: bool, as_json: bool) -> None:
    """Inspect this host and recommend a model, a device, numbers of workers and container limits."""
    from pipeline.host import engine, envfile, machine, recommend
    from pipeline.host.models import card_of
    from workers.deploy.env import collections_of, recommended

    settings = context.settings("error")
    seen, docker = machine.look(settings.data_dir), engine.engine()
    kept = card_of(settings.model) if collections_of(settings) else None
    # No container can use a Mac's GPU, so the workers run on the host there.
    profiles = envfile.read(ENV).get("COMPOSE_PROFILES", "").split(",")
    native = any(one.kind == "mps" for one in seen.accelerators) or "services" in profiles
    found = recommend.recommend(seen, docker.memory_bytes if docker else None, kept, native=native)
    values = recommended(settings, found)
    backup = envfile.update(ENV, values, comment="recommended by `kb-ingest assess`") if write else None
    if as_json:
        print_json({"machine": seen, "docker": docker, "recommended": found, "docker_bytes": found.docker_bytes, "env": values})
        return
    _tell(seen, docker, found)
    for name, value in values.items():
        click.echo(f"  {name}={value}")
    if backup or write:
        click.echo(f"written to {ENV.absolute()}" + (f"; previous file: {backup}" if backup else ""))


def _tell(seen: Machine, docker: Engine | None, found: Recommendation) -> None:
    """Print the assessment as text."""
    from pipeline.host.machine import INSTRUCTIONS

    names = ", ".join(INSTRUCTIONS[name] for name in seen.instructions[:1]) or "no vector instructions"
    click.echo(f"processor: {seen.processor}, {plural(seen.cores, 'core')}, {names}")
    click.echo(f"memory: {memory(seen.memory_bytes)}; disk: {memory(seen.disk_free_bytes, 0)} free")
    for device in seen.accelerators:
        size = memory(device.memory_bytes, 0) if device.memory_bytes else "the host's memory"
        click.echo(f"accelerator: {device.name} ({device.kind}), {size}{'' if device.usable else ', not usable by this torch'}")
    if not seen.accelerators:
        click.echo("accelerator: none")
    if docker:
        where = "in Docker Desktop's virtual machine" if docker.desktop else "directly on this host, without a virtual machine"
        click.echo(f"Docker: {docker.version}, {memory(docker.memory_bytes)} for containers, {where}")
    else:
        click.echo("Docker: no engine is running or reachable")
    rate = f", about {found.chunks_per_s:.0f} chunks/s" if found.chunks_per_s else ""
    click.echo(f"model: {found.model.name} on {found.device}{rate}: {found.why}")
    click.echo(
        f"workers: {found.embed_workers} embed, {found.parse_workers} parse; {found.dtype} (KB_DTYPE=auto measures it), "
        f"{found.token_budget} tokens per call"
    )
    click.echo(f"containers: {memory(found.docker_bytes)} in total")


@click.command()
@json_option
@click.pass_obj
def doctor(context: Context, as_json: bool) -> int:
    """Check broker, store, ledger, model, device, disk, versions, clock and permissions; suggest a fix for each problem."""
    from workers.deploy.doctor import examine

    findings = []
    for finding in examine(context.settings("error"), ENV):
        findings.append(finding)
        if not as_json:
            mend = f"\n{'':9}fix: {finding.mend}" if finding.mend and finding.state != "ok" else ""
            click.echo(f"{finding.state:8} {finding.part}: {finding.text}{mend}")
    if as_json:
        print_json(findings)
    return 1 if any(finding.state == "wrong" for finding in findings) else 0


@click.command("docker-memory")
@click.option("--set", "size", help="New memory size of Docker Desktop's virtual machine, e.g. 10g; restarts Docker Desktop.")
def docker_memory(size: str | None) -> None:
    """Show Docker's memory or, on a Mac, change it: back up the settings, restart Docker Desktop and wait for it."""
    from pipeline.host.engine import Desktop, engine
    from pipeline.host.recommend import parse_size

    if size is None:
        docker = engine()
        click.echo(f"{memory(docker.memory_bytes)} for containers" if docker else "no Docker engine is running or reachable")
        return
    try:
        wanted = parse_size(size)
    except ValueError:
        raise click.UsageError(f"invalid size {size!r}; use a value such as 10g or 8192m") from None
    desktop = Desktop(_say)
    before = desktop.memory_bytes()
    backup = desktop.set_memory(wanted)
    click.echo(f"Docker now has {memory(wanted)} (before: {memory(before)}); the previous settings are in {backup}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--yes", is_flag=True, help="Take the default answer if the model does not fit into memory.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def compose(context: Context, yes: bool, arguments: tuple[str, ...]) -> None:
    """Run `docker compose ARGUMENTS`; before `up`, check that the model fits into Docker's memory."""
    from pipeline.host.engine import compose as run
    from pipeline.host.engine import engine

    if "up" in arguments:
        preflight(context.settings("warning"), yes=yes, docker=True)
        if engine() is None:
            say("warning: no Docker engine is reachable yet", logging.WARNING)
    run(arguments)


def preflight(settings: Settings, *, yes: bool, docker: bool) -> None:
    """If the model does not fit, ask the user what to do; raises click.Abort if they choose not to start."""
    from pipeline.host.engine import Desktop, engine
    from pipeline.host.machine import memory_bytes
    from workers.deploy.env import DESKTOP_SPARE_BYTES, choose_smaller, shortfall

    found = shortfall(settings, engine() if docker else None, memory_bytes())
    if found is None:
        return
    say(f"{found}", logging.WARNING)
    choices = ["raise"] * found.raisable + ["smaller"] * bool(found.smaller) + ["go-on", "stop"]
    if not yes and not sys.stdin.isatty():
        say("warning: stdin is no terminal to ask on; starting anyway", logging.WARNING)
        return
    if found.smaller:
        click.echo(f"  smaller: use {found.smaller.name} and write it to .env", err=True)
    if found.raisable:
        click.echo("  raise: give Docker Desktop more memory and restart it", err=True)
    click.echo("  go-on: start anyway; not recommended, workers may run out of memory and be killed", err=True)
    answer = choices[0] if yes else click.prompt("What to do", type=click.Choice(choices), default=choices[0], err=True)
    if answer == "stop":
        raise click.Abort
    if answer == "raise":
        Desktop(_say).set_memory(found.need_bytes + DESKTOP_SPARE_BYTES)
    elif answer == "smaller" and found.smaller:
        choose_smaller(Path.cwd(), found.smaller)


def _say(text: str) -> None:
    click.echo(text, err=True)
