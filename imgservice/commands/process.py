"""What an operator asks of a running service: how it is, and to leave the rotation."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from imgservice.config.errors import ConfigError
from imgservice.config.loader import load, located
from imgservice.process.state import read_state

POLL = 0.1
NOT_RUNNING = 3
"""Exit code, as the Linux Standard Base has it for the status of a service."""
NOT_SERVING = 1
SETTLED = 2.0
"""Seconds after which what is told of a drained service has been counted since."""
CONFIG = click.option(
    "--config", "-c", type=click.Path(path_type=Path), help="The configuration file."
)


@click.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def status(config: Path | None, as_json: bool) -> None:
    """Say how the running service is.

    Exit code 0: it serves; 1: it does not, or not with all workers, or something that it needs
    fails; 3: it does not run.
    """
    state = _running(_state_file(config))
    click.echo(orjson.dumps(state).decode() if as_json else "\n".join(_lines(state)))
    raise SystemExit(0 if _is_well(state) else NOT_SERVING)


@click.command()
@CONFIG
@click.option("--undo", is_flag=True, help="Take part in the rotation again.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is done; else only begin it.")
@click.option("--timeout", default=600.0, help="Seconds after which not to wait any longer.")
def drain(config: Path | None, undo: bool, wait: bool, timeout: float) -> None:
    """Take the running service out of the rotation of a load balancer.

    /healthcheck answers 503 for `server.drain_delay` seconds; then no more connections are
    accepted, and requests under way are finished. The service goes on running: stop it, or put it
    back with --undo.
    """
    path = _state_file(config)
    state = _running(path)
    os.kill(state["pid"], signal.SIGUSR2 if undo else signal.SIGUSR1)
    deadline = time.monotonic() + timeout
    while wait and not _is_done(state := _running(path), undo):
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"{state['phase']} after {timeout:g} seconds, {_connections(state)} connections"
            )
        time.sleep(POLL)
    click.echo("taking part again" if undo else "drained" if wait else "draining")


def _state_file(config: Path | None) -> Path:
    try:
        path = load(config).server.state_file
    except ConfigError as error:
        raise click.ClickException(located(config, error)) from None
    if path is None:
        raise click.ClickException("server.state_file is null: nothing is known of the service")
    return Path(path)


def _running(path: Path) -> Mapping[str, Any]:
    try:
        state = read_state(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{path}: cannot be read: {reason}") from None
    if state is None:
        click.echo(f"imgservice: not running, as {path} says", err=True)
        raise SystemExit(NOT_RUNNING)
    return state


def _is_done(state: Mapping[str, Any], undo: bool) -> bool:
    if undo:
        return bool(state["phase"] == "serving")
    # By the clock that all processes of a host share and nobody sets.
    is_settled = time.monotonic() - state["phase_began"] > SETTLED
    return state["phase"] == "drained" and is_settled and _connections(state) == 0


def _connections(state: Mapping[str, Any]) -> int:
    return sum(one["connections"] for one in state["workers"])


def _is_well(state: Mapping[str, Any]) -> bool:
    ready = [one for one in state["workers"] if one["state"] == "ready"]
    is_failing = any(one["essential"] for one in state.get("troubles", ()))
    return bool(state["phase"] == "serving" and len(ready) >= state["wanted"] and not is_failing)


def _lines(state: Mapping[str, Any]) -> Iterator[str]:
    since = _moment(state["since"])
    yield f"{state['phase']}, process {state['pid']}, since {since}"
    yield f"configuration number {state['generation']}, listening on {', '.join(state['listen'])}"
    for one in state["workers"]:
        yield (
            f"worker {one['slot']}: process {one['pid']} {one['state']} since"
            f" {_moment(one['since'])}, configuration {one['generation']},"
            f" {one['connections']} connections, {one['requests']} requests"
        )
    if state["trouble"]:
        yield f"trouble: {state['trouble']}"
    for one in state.get("troubles", ()):
        yield f"trouble: {one['what']} fails since {_moment(one['since'])}: {one['why']}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
