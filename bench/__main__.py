"""The command line: `python -m bench --help`."""

import argparse
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import attrs

from bench.address import address_of
from bench.clouds import login
from bench.databases import MARIADB, POSTGRESQL, SQLITE, started
from bench.errors import LeftOut, Wrong
from bench.items import ITEMS, ON_REQUEST
from bench.options import Options, quick
from bench.plans import print_plans
from bench.report import Report
from bench.run import Run
from bench.units import GIB

REPOSITORY = Path(__file__).parents[1]
# The most that lies on the disk at once: the files of three contestants.
NEEDED = 6 * GIB
ENDED_BY_SIGNAL = 128


def main() -> int:
    """Measure what was asked for; return 1 when a server did something wrong."""
    parser = _parser()
    arguments = parser.parse_args()
    options = _options(parser, arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(options.work).free < NEEDED * options.scale:
        parser.error(f"{options.work} has less than {NEEDED * options.scale / GIB:.1f} GiB free")
    _allow_many_files()
    _end_in_order()
    if arguments.plans:
        print_plans(options)
        return 0
    report = Report()
    try:
        _measure(options, report)
    finally:
        report.end()
        if arguments.json:
            report.write(arguments.json, options)
    return 1 if report.problems else 0


def _measure(options: Options, report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="run-", dir=options.work) as folder:
        try:
            with started(options.database) as database:
                run = Run(options, Path(folder), report, database)
                for name in options.items:
                    run.measure(ITEMS[name])
        except LeftOut as reason:
            report.problem(f"there is no {options.database}: {reason}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench", description="Measure imgservice.")
    parser.add_argument(
        "--only", help=f"some of {','.join(ITEMS)} (all but {','.join(ON_REQUEST)})"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement")
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes of transfers")
    parser.add_argument("--quick", action="store_true", help="a look, in less than a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument(
        "--work", type=Path, default=REPOSITORY / "var" / "bench", help="folder for all files"
    )
    parser.add_argument(
        "--database",
        choices=(SQLITE, POSTGRESQL, MARIADB),
        default=SQLITE,
        help="of ours; a server is started for the run",
    )
    parser.add_argument(
        "--workers",
        type=_numbers,
        default=(0,),
        metavar="N,N",
        help="how many ours has; more than one number: that many services, side by side",
    )
    parser.add_argument("--base", metavar="URL", help="a server to compare with")
    parser.add_argument("--base-pid", type=int, metavar="PID", help="the root of its processes")
    parser.add_argument("--base-token", metavar="TOKEN", help="sent to it as X-Auth-Token")
    parser.add_argument(
        "--base-clouds", type=Path, metavar="FILE", help="a clouds.yaml, for tokens instead of one"
    )
    parser.add_argument(
        "--base-users",
        default="admin,demo",
        metavar="ADMIN,MEMBER",
        help="the clouds of an administrator and a member in it",
    )
    parser.add_argument(
        "--base-database", metavar="URL", help="its PostgreSQL, filled and emptied for list"
    )
    parser.add_argument(
        "--base-database-pid", type=int, metavar="PID", help="the root of that server's processes"
    )
    parser.add_argument(
        "--lists", metavar="REGEX", default="", help="the names of the lists to ask for"
    )
    parser.add_argument(
        "--memory-seconds",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long memory waits after its transfers",
    )
    parser.add_argument("--full", action="store_true", help="list a million images too")
    parser.add_argument(
        "--plans", action="store_true", help="print how SQLite goes about the lists, nothing else"
    )
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split(","))
    if len({*numbers}) < len(numbers):
        raise ValueError
    return numbers


def _options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Options:
    usual = tuple(name for name in ITEMS if name not in ON_REQUEST)
    items = tuple(arguments.only.split(",")) if arguments.only else usual
    unknown = [name for name in items if name not in ITEMS]
    if unknown:
        parser.error(f"no item {', '.join(unknown)}; there are {', '.join(ITEMS)}")
    if arguments.base:
        try:
            address_of(arguments.base, None)
        except ValueError as error:
            parser.error(str(error))
    users = tuple(arguments.base_users.split(","))
    if len(users) != 2:
        parser.error("--base-users names two clouds: ADMIN,MEMBER")
    options = Options(
        items=items,
        work=arguments.work.absolute(),
        database=arguments.database,
        workers=arguments.workers,
        rounds=arguments.rounds,
        scale=arguments.scale,
        memory_seconds=arguments.memory_seconds,
        base_url=arguments.base,
        base_pid=arguments.base_pid,
        base_token=arguments.base_token or _token(parser, arguments.base_clouds, users[0]),
        base_clouds=arguments.base_clouds,
        base_users=users,
        base_database=arguments.base_database,
        lists=arguments.lists,
        base_database_pid=arguments.base_database_pid,
    )
    if arguments.quick:
        return quick(options)
    if arguments.full:
        return attrs.evolve(options, list_sizes=(*options.list_sizes, 1_000_000))
    return options


def _token(parser: argparse.ArgumentParser, clouds: Path | None, name: str) -> str | None:
    if clouds is None:
        return None
    try:
        return login(clouds, name).token
    except (Wrong, OSError) as error:
        parser.error(str(error))


def _allow_many_files() -> None:
    """Raise the limit as far as we may; the servers that we start inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end_in_order() -> None:
    """Let Ctrl-C and SIGTERM unwind everything, once: a second one must not stop the stopping."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(ENDED_BY_SIGNAL + number)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)


if __name__ == "__main__":
    sys.exit(main())
