"""`python -m compare`: with a running Glance, or with what was recorded of one."""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import click

from compare import recording
from compare.beside import Services, run_beside
from compare.differences import Comparison, compare, judge, load_wanted
from compare.origin import origin as serving
from compare.replay import Played, play
from compare.report import report
from compare.sequences import RequestSequence, load
from compare.servers import (
    INVENTED,
    Identity,
    Peer,
    Running,
    accounts_at,
    accounts_of,
    log_in,
    started,
    twistd,
)
from compare.turns import can_take_turns, compare_turns
from compare.variants import peer_options as variant_options
from compare.variants import variants, write_files

_only = click.option("--only", default="*", help="Pattern for the names of sequences.")


def peer_options(command: Any) -> Any:
    for option in (
        click.argument("url"),
        click.option("--clouds", type=Path, help="clouds.yaml with all of the accounts."),
        click.option("--peer-auth", help="Keystone's URL, when there is no such file."),
        click.option("--password", help="... and the password of all accounts."),
        click.option("--peer-db", help="SQLAlchemy URL of the peer's database."),
        click.option("--variant", multiple=True, help="NAME=URL of a Glance set up otherwise."),
        click.option("--variant-db", multiple=True, help="NAME=URL of the database of that one."),
        click.option("--origin", default="127.0.0.1:0", help="HOST:PORT to serve data on."),
        _only,
    ):
        command = option(command)
    return command


@attrs.frozen
class Glances:
    """Those that run, by the variants that they are: None is the common one."""

    peers: Mapping[str | None, Peer]

    @property
    def identities(self) -> Mapping[str, Identity]:
        return self.peers[None].identities

    def play(self, sequences: Sequence[RequestSequence]) -> dict[str, Played]:
        return {one.name: play(self.peers[one.variant], one) for one in sequences}


@click.group()
def main() -> None:
    """Compare imgservice with a Glance, request by request."""


@main.command()
@peer_options
def peer(only: str, origin: str, **told: Any) -> None:
    """Ask the Glance at URL and a fresh imgservice the same, and print what differs."""
    with serving(*_address(origin)) as data, ThreadPoolExecutor(2) as both:
        glances = _glances(origin=data, **told)
        sequences = _answerable(_chosen(only), glances)
        theirs = both.submit(glances.play, sequences)
        answered = play_ours(sequences, glances.identities, data)
        complete = len(sequences) == len(load())
        compared = _compared(sequences, theirs.result(), answered)
        sys.exit(_judge(sequences, compared, complete=complete))


@main.command()
@peer_options
def record(only: str, origin: str, **told: Any) -> None:
    """Ask the Glance at URL and keep its answers for `check`, beside those to other sequences."""
    known = {one.name for one in load()}
    kept = {name: one for name, one in recording.read().items() if name in known}
    with serving(*_address(origin)) as data:
        glances = _glances(origin=data, **told)
        recording.write({**kept, **glances.play(_answerable(_chosen(only), glances))})


@main.command()
@_only
def check(only: str) -> None:
    """Compare a fresh imgservice with what was recorded."""
    sequences = _chosen(only)
    recorded = recording.read()
    missing = [one.name for one in sequences if one.name not in recorded]
    if missing:
        raise click.ClickException(f"not recorded yet: {', '.join(missing)}")
    with serving() as data:
        answered = play_ours(sequences, INVENTED, data)
    compared = _compared(sequences, recorded, answered)
    sys.exit(_judge(sequences, compared, complete=only == "*"))


@main.command("variant")
@click.argument("name", type=click.Choice(list(variants())))
@click.option("--origin", default="127.0.0.1:9095", help="HOST:PORT that the data will be on.")
@click.option("--files", type=Path, default=Path(), help="Where to write files that it needs.")
def variant_command(name: str, origin: str, files: Path) -> None:
    """Print what a Glance needs in glance-api.conf to be the variant NAME."""
    click.echo(variant_options(name, *_address(origin), files), nl=False)
    for path in write_files(name, files):
        click.echo(f"# and beside it, as written now: {path}")


@main.command()
@click.argument("urls", nargs=-1, required=True)
@click.option("--token", help="Sent to all of them as X-Auth-Token.")
@click.option("--seconds", default=30.0, help="How long new images begin to live.")
def beside(urls: Sequence[str], token: str | None, seconds: float) -> None:
    """Let images live on services that share a database and stores, request by request in turns."""
    services = Services(urls, {"X-Auth-Token": token} if token else {})
    outcome = run_beside(services, seconds)
    for answer, count in outcome.answers.items():
        click.echo(f"{count:7} x  {answer}")
    for line in outcome.wrong:
        click.echo(line)
    requests = sum(outcome.answers.values())
    click.echo(f"{outcome.lives} lives, {requests} requests, {len(outcome.wrong)} wrong")
    sys.exit(bool(outcome.wrong))


@main.command()
@click.argument("url")
@click.argument("others", nargs=-1, required=True)
@click.option("--clouds", type=Path, help="clouds.yaml with all of the accounts.")
@click.option("--peer-auth", help="Keystone's URL, when there is no such file.")
@click.option("--password", help="... and the password of all accounts.")
@click.option("--peer-db", help="SQLAlchemy URL of the database of all of them.")
@_only
def turns(url: str, others: Sequence[str], peer_db: str | None, only: str, **accounts: Any) -> None:
    """Ask the Glance at URL alone, then it and OTHERS that share its database in turns, the same,
    and print what differs."""
    glance = log_in(url, _accounts(**accounts), peer_db, "")
    sequences = [one for one in _chosen(only) if can_take_turns(one)]
    compared = list(compare_turns(glance, [glance.url, *others], sequences))
    sys.exit(_judge(sequences, compared, complete=False))


def play_ours(
    sequences: Sequence[RequestSequence],
    identities: Mapping[str, Identity],
    origin: str,
    running: Running = twistd,
) -> dict[str, Played]:
    """Start an imgservice for every variant, ask it everything, and stop it.

    Some of the variants are asked while the others wait for what is done in the background.
    """

    def play_variant(variant: str | None) -> dict[str, Played]:
        with (
            TemporaryDirectory() as directory,
            started(Path(directory), identities, origin, variant, running) as ours,
        ):
            return {one.name: play(ours, one) for one in sequences if one.variant == variant}

    with ThreadPoolExecutor(2) as both:
        found = both.map(play_variant, dict.fromkeys(one.variant for one in sequences))
        return {name: played for answered in found for name, played in answered.items()}


def _glances(
    *,
    url: str,
    origin: str,
    peer_db: str | None,
    variant: Sequence[str],
    variant_db: Sequence[str],
    **told: Any,
) -> Glances:
    common = log_in(url, _accounts(**told), peer_db, origin)
    databases = _named(variant_db)
    others: dict[str | None, Peer] = {
        name: attrs.evolve(common, url=at.rstrip("/"), database=databases.get(name))
        for name, at in _named(variant).items()
    }
    return Glances({None: common, **others})


def _named(options: Sequence[str]) -> dict[str, str]:
    """Read `NAME=URL` of every option."""
    found = dict(option.partition("=")[::2] for option in options)
    for name, value in found.items():
        if name not in variants() or not value:
            raise click.UsageError(f"not NAME=URL with one of {', '.join(variants())}: {name}")
    return found


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError(f"not HOST:PORT: {text}")
    return host, int(port)


def _accounts(
    clouds: Path | None, peer_auth: str | None, password: str | None
) -> Mapping[str, Mapping[str, str]]:
    if clouds is not None:
        return accounts_of(clouds)
    if peer_auth is None or password is None:
        raise click.UsageError("No caller: give --clouds, or --peer-auth and --password.")
    return accounts_at(peer_auth, password)


def _chosen(only: str) -> list[RequestSequence]:
    return [one for one in load() if fnmatchcase(one.name, only)]


def _answerable(sequences: Sequence[RequestSequence], glances: Glances) -> list[RequestSequence]:
    """Leave out, and say so, what needs a Glance that is not there."""
    missing = sorted({str(one.variant) for one in sequences if one.variant not in glances.peers})
    if missing:
        click.echo(f"Not asked, for want of --variant NAME=URL: {', '.join(missing)}")
    return [one for one in sequences if one.variant in glances.peers]


def _compared(
    sequences: Sequence[RequestSequence],
    theirs: Mapping[str, Played],
    ours: Mapping[str, Played],
) -> list[Comparison]:
    return [compare(one, theirs[one.name], ours[one.name]) for one in sequences]


def _judge(
    sequences: Sequence[RequestSequence], compared: Sequence[Comparison], *, complete: bool
) -> int:
    verdict = judge([found for one in compared for found in one.differences], load_wanted())
    if not complete:
        verdict = attrs.evolve(verdict, stale=[])
    steps = sum(one.requests for one in sequences)
    values = sum(one.compared for one in compared)
    for line in report(verdict, len(sequences), steps, values):
        click.echo(line)
    return int(bool(verdict.unexplained or verdict.stale))


if __name__ == "__main__":
    main(prog_name="python -m compare")
