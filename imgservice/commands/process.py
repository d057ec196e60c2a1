"""`imgservice status` and `imgservice drain`: commands for a running service."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import cattrs
import click
import orjson

from imgservice.commands.configuration import CONFIG, tell
from imgservice.config.errors import ConfigError
from imgservice.config.loader import load, located
from imgservice.process.state import read_state

POLL = 0.1
NOT_RUNNING = 3
"""Exit code for the status of a service, as in the Linux Standard Base."""
NOT_SERVING = 1
SETTLED = 2.0
"""Seconds after which the connections of a drained service have been counted again."""


@attrs.frozen
class WorkerStatus:
    slot: int
    pid: int
    state: str
    since: float
    generation: int
    connections: int
    requests: int


@attrs.frozen
class TroubleStatus:
    what: str
    why: str
    since: float
    essential: bool


@attrs.frozen
class State:
    """What the state file says about a running service."""

    pid: int
    phase: str
    phase_began: float
    since: float
    wanted: int
    generation: int
    listen: Sequence[str]
    workers: Sequence[WorkerStatus]
    trouble: str | None
    troubles: Sequence[TroubleStatus] = ()

    @property
    def connections(self) -> int:
        return sum(one.connections for one in self.workers)

    @property
    def is_serving(self) -> bool:
        """Whether it serves with all workers, and everything that it needs works."""
        ready = [one for one in self.workers if one.state == "ready"]
        is_failing = any(one.essential for one in self.troubles)
        return self.phase == "serving" and len(ready) >= self.wanted and not is_failing

    def is_done(self, undo: bool) -> bool:
        """Tell whether it has drained, or serves again."""
        if undo:
            return self.phase == "serving"
        # The monotonic clock is the same for all processes of a host.
        is_settled = time.monotonic() - self.phase_began > SETTLED
        return self.phase == "drained" and is_settled and self.connections == 0


@click.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print all details as one JSON object.")
def status(config: Path | None, as_json: bool) -> None:
    """Print the state of the running service.

    Exit code 0: it is serving; 1: it is not, or a worker is missing, or something that it needs has
    failed; 3: it is not running.
    """
    state, text = _read(_state_file(config))
    click.echo(text if as_json else "\n".join(_lines(state)))
    raise SystemExit(0 if state.is_serving else NOT_SERVING)


@click.command()
@CONFIG
@click.option("--undo", is_flag=True, help="Put it back into the rotation.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is drained.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait at most.")
def drain(config: Path | None, undo: bool, wait: bool, timeout: float) -> None:
    """Take the running service out of the rotation of a load balancer.

    /healthcheck answers 503 for `server.drain_delay` seconds; then no more connections are
    accepted, and running requests finish. The service keeps running: stop it, or put it back with
    --undo.
    """
    path = _state_file(config)
    state, _ = _read(path)
    os.kill(state.pid, signal.SIGUSR2 if undo else signal.SIGUSR1)
    if wait:
        _wait_for(path, undo, timeout)
    click.echo("back in rotation" if undo else "drained" if wait else "draining")


def _wait_for(path: Path, undo: bool, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not (state := _read(path)[0]).is_done(undo):
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"still {state.phase} after {timeout:g} seconds, {state.connections} connections"
            )
        time.sleep(POLL)


def _state_file(config: Path | None) -> Path:
    try:
        path = load(config).server.state_file
    except ConfigError as error:
        raise click.ClickException(located(config, error)) from None
    if path is None:
        raise click.ClickException("server.state_file is null: the state of the service is unknown")
    return Path(path)


def _read(path: Path) -> tuple[State, str]:
    """Return the state of the running service, and all of it as JSON."""
    try:
        found = read_state(path)
        if found is not None:
            return cattrs.structure(found, State), orjson.dumps(found).decode()
    except (OSError, ValueError, cattrs.BaseValidationError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{path}: cannot be read: {reason}") from None
    tell(f"not running, according to {path}")
    raise SystemExit(NOT_RUNNING)


def _lines(state: State) -> Iterator[str]:
    yield f"{state.phase}, process {state.pid}, since {_moment(state.since)}"
    yield f"configuration number {state.generation}, listening on {', '.join(state.listen)}"
    for one in state.workers:
        yield (
            f"worker {one.slot}: process {one.pid} {one.state} since"
            f" {_moment(one.since)}, configuration {one.generation},"
            f" {one.connections} connections, {one.requests} requests"
        )
    if state.trouble:
        yield f"trouble: {state.trouble}"
    for trouble in state.troubles:
        yield f"trouble: {trouble.what} fails since {_moment(trouble.since)}: {trouble.why}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
