"""`python -m compare`: with a running Glance, or with what was recorded of one."""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from compare import recording
from compare.differences import compare, judge, load_wanted
from compare.replay import Play, Played
from compare.report import report
from compare.sequences import RequestSequence, load
from compare.servers import (
    INVENTED,
    Identity,
    Peer,
    Server,
    accounts_at,
    accounts_of,
    log_in,
    started,
)

_only = click.option("--only", default="*", help="Pattern for the names of sequences.")


def peer_options(command: Any) -> Any:
    for option in (
        click.argument("url"),
        click.option("--clouds", type=Path, help="clouds.yaml with admin, demo, alt and reader."),
        click.option("--peer-auth", help="Keystone's URL, when there is no such file."),
        click.option("--password", help="... and the password of all four accounts."),
        click.option("--peer-db", help="SQLAlchemy URL of the peer's database."),
        _only,
    ):
        command = option(command)
    return command


@click.group()
def main() -> None:
    """Compare imgservice with a Glance, request by request."""


@main.command()
@peer_options
def peer(only: str, peer_db: str | None, **told: Any) -> None:
    """Ask the Glance at URL and a fresh imgservice the same, and print what differs."""
    glance = _peer(peer_db, **told)
    sequences = _chosen(only)
    with TemporaryDirectory() as directory, ThreadPoolExecutor(2) as both:
        with started(Path(directory), glance.identities) as ours:
            theirs = both.submit(_play, glance, sequences)
            answered = _play(ours, sequences)
        sys.exit(_judge(sequences, theirs.result(), answered, complete=only == "*"))


@main.command()
@peer_options
def record(only: str, peer_db: str | None, **told: Any) -> None:
    """Ask the Glance at URL and keep its answers for `check`, beside those to other sequences."""
    known = {one.name for one in load()}
    kept = {name: one for name, one in recording.read().items() if name in known}
    recording.write({**kept, **_play(_peer(peer_db, **told), _chosen(only))})


@main.command()
@_only
def check(only: str) -> None:
    """Compare a fresh imgservice with what was recorded."""
    sequences = _chosen(only)
    recorded = recording.read()
    missing = [one.name for one in sequences if one.name not in recorded]
    if missing:
        raise click.ClickException(f"not recorded yet: {', '.join(missing)}")
    answered = play_ours(sequences, INVENTED)
    sys.exit(_judge(sequences, recorded, answered, complete=only == "*"))


def play_ours(
    sequences: Sequence[RequestSequence], identities: Mapping[str, Identity]
) -> dict[str, Played]:
    """Start an imgservice, ask it everything, and stop it."""
    with TemporaryDirectory() as directory, started(Path(directory), identities) as ours:
        return _play(ours, sequences)


def _peer(
    database: str | None,
    url: str,
    clouds: Path | None,
    peer_auth: str | None,
    password: str | None,
) -> Peer:
    if clouds is not None:
        return log_in(url, accounts_of(clouds), database)
    if peer_auth is None or password is None:
        raise click.UsageError("who asks? Give --clouds, or --peer-auth and --password.")
    return log_in(url, accounts_at(peer_auth, password), database)


def _chosen(only: str) -> list[RequestSequence]:
    return [one for one in load() if fnmatchcase(one.name, only)]


def _play(server: Server, sequences: Sequence[RequestSequence]) -> dict[str, Played]:
    return {one.name: Play(server, one).run() for one in sequences}


def _judge(
    sequences: Sequence[RequestSequence],
    theirs: Mapping[str, Played],
    ours: Mapping[str, Played],
    *,
    complete: bool,
) -> int:
    compared = [compare(one, theirs[one.name], ours[one.name]) for one in sequences]
    verdict = judge([found for one in compared for found in one.differences], load_wanted())
    steps = sum(len(one.steps) for one in sequences)
    values = sum(one.compared for one in compared)
    for line in report(verdict, len(sequences), steps, values):
        click.echo(line)
    return int(bool(verdict.unexplained or (complete and verdict.stale)))


if __name__ == "__main__":
    main(prog_name="python -m compare")
