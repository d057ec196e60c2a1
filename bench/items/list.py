"""Lists of few and of many images, as an administrator and as a member who sees few of them."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager

import attrs

from bench.address import Address, address_of
from bench.clouds import login
from bench.contestants.contestant import Contestant, Images
from bench.contestants.ours import DATABASE, Installation, installed, running
from bench.databases import POSTGRESQL, Own
from bench.errors import LeftOut
from bench.fill import Postgres, fill_sqlite
from bench.population import Population
from bench.queries import Query, queries
from bench.run import Item, Run
from bench.series import Client
from bench.table import Table
from bench.usage import watched
from imgservice.db.schema.indexes import add_indexes
from imgservice.db.schema.upgrade import upgrade

ADMIN, MEMBER = "admin", "member"
OUR_MEMBER = "member"
"""The project of the member, where we make them up."""
PROXY = "trusted_headers"
CPU, MEDIAN, SLOW = "server CPU", "p50", "p99"


@attrs.frozen
class Lister:
    """A server full of images, and how each kind of user asks it."""

    contestant: Images
    users: Mapping[str, Address]
    population: Population
    names: str
    """Which lists it is asked for."""

    def queries(self) -> list[Query]:
        return queries(self.population, self.names)


def measure(run: Run, table: Table) -> None:
    """Ask for every list at every size, and tell in the end what grew."""
    for size in run.options.list_sizes:
        with _listers(run, size) as listers:
            for user in (ADMIN, MEMBER):
                _all_queries(run, table, listers, user)
    _add_growth(table, run.options.list_sizes)


def _all_queries(run: Run, table: Table, listers: list[Lister], user: str) -> None:
    asked = {each.contestant.column: each for each in listers if user in each.users}
    for number in range(len(listers[0].queries())):
        asking = _Asking(run, table, asked, user, number)
        contestants = [each.contestant for each in asked.values()]
        run.rounds(table, contestants, asking.ask, run.options.long_rounds)
        asking.compare()


@attrs.frozen
class _Asking:
    """One query of one user, and the ids of the images that each server listed."""

    run: Run
    table: Table
    listers: Mapping[str, Lister]
    user: str
    number: int
    found: dict[str, list[str]] = attrs.field(factory=dict)

    def ask(self, contestant: Contestant) -> None:
        """Measure one server."""
        column = contestant.column
        lister = self.listers[column]
        query = lister.queries()[self.number]
        with closing(Client(lister.users[self.user])) as client:
            images = json.loads(client.get(query.path))["images"]
            with watched(contestant.pid, contestant.database) as usage:
                series = client.series(query.path, self.run.options.list_seconds)
        self.found[column] = [image["id"] for image in images]
        work = _work(lister.population.count, self.user, query)
        usage.fill(self.table, column, work, len(series.latencies))
        self.table.add(column, work, MEDIAN, "ms", series.part(0.5) * 1e3)
        self.table.add(column, work, SLOW, "ms", series.part(0.99) * 1e3)

    def compare(self) -> None:
        """Report servers that list other images: their figures say nothing."""
        ours = self.found.get("ours")
        for column, ids in self.found.items():
            if ids != ours:
                lister = self.listers[column]
                what = f"{lister.queries()[self.number].name}: not the images that ours lists"
                self.run.failed(self.table, lister.contestant, what)


def _work(size: int, user: str, query: Query) -> str:
    return f"{size:,} images, {user}: {query.name}"


def _add_growth(table: Table, sizes: tuple[int, ...]) -> None:
    rows = {(row.work, row.measure): row for row in table.rows}
    smallest = sizes[0]
    for size in sizes[1:]:
        for user in (ADMIN, MEMBER):
            for query in queries(Population(size, "")):
                for measure in (CPU, SLOW):
                    before = rows.get((_work(smallest, user, query), measure))
                    after = rows.get((_work(size, user, query), measure))
                    if before is None or after is None:
                        continue
                    work = f"from {smallest:,} to {size:,}, {user}: {query.name}"
                    for column in after.values:
                        less, more = before.median(column), after.median(column)
                        if less and more is not None:
                            table.add(column, work, f"{measure} grows", "times", more / less)


# -- the servers ----------------------------------------------------------------------------------


@contextmanager
def _listers(run: Run, size: int) -> Iterator[list[Lister]]:
    """Start ours without and with the indexes of its own, and fill the one compared with."""
    population = Population(size, OUR_MEMBER)
    with ExitStack() as stack:
        plain, indexed = _installations(run, population)
        yield [
            stack.enter_context(_ours(run, "ours", plain, population)),
            stack.enter_context(_ours(run, "indexed", indexed, population)),
            *stack.enter_context(_base(run, size)),
        ]


def _installations(run: Run, population: Population) -> tuple[Installation, Installation]:
    if run.database is not None:
        return _on_server(run, run.database, population)
    plain, indexed = (installed(run.new_folder(), auth=PROXY) for _ in range(2))
    fill_sqlite(plain.folder / DATABASE, population)
    shutil.copy(plain.folder / DATABASE, indexed.folder / DATABASE)
    for _ in add_indexes(f"sqlite:///{indexed.folder / DATABASE}"):
        pass
    return plain, indexed


def _on_server(run: Run, server: Own, population: Population) -> tuple[Installation, Installation]:
    if server.kind != POSTGRESQL:
        raise LeftOut(f"the benchmark cannot fill {server.kind}")
    url = server.create()
    upgrade(url)
    Postgres(url).fill(population)
    copy = server.create(template=url)
    for _ in add_indexes(copy):
        pass
    Postgres(copy).settle()
    plain, indexed = (
        installed(run.new_folder(), auth=PROXY, database=each) for each in (url, copy)
    )
    return plain, indexed


@contextmanager
def _ours(
    run: Run, column: str, installation: Installation, population: Population
) -> Iterator[Lister]:
    with running(installation) as process:
        users = {
            ADMIN: _asking(installation.address, "bench-admin", "admin,member,reader"),
            MEMBER: _asking(installation.address, OUR_MEMBER, "member,reader"),
        }
        contestant = Images(column, installation.address, process.pid, run.database)
        yield Lister(contestant, users, population, run.options.lists)
    for file in installation.folder.glob(f"{DATABASE}*"):
        file.unlink()


def _asking(address: Address, project: str, roles: str) -> Address:
    """Return the address with the headers by which a proxy identifies a user."""
    headers = {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": "bench",
        "X-Project-Id": project,
        "X-Roles": roles,
    }
    return attrs.evolve(address, headers=tuple(headers.items()))


@contextmanager
def _base(run: Run, size: int) -> Iterator[list[Lister]]:
    """Fill the server that is compared with; without its database, or psql, it takes no part."""
    options = run.options
    if not options.base_url or not options.base_database:
        yield []
        return
    try:
        users, project = _base_users(run)
        population = Population(size, project)
        with Postgres(options.base_database).filled(population):
            yield [Lister(each, users, population, options.lists) for each in run.base()]
    except LeftOut as reason:
        run.report.remark(f"list: base is left out: {reason}")
        yield []


def _base_users(run: Run) -> tuple[Mapping[str, Address], str]:
    """Return how to ask it, and the member's project; without clouds there is only one user."""
    options = run.options
    assert options.base_url
    if options.base_clouds is None:
        return {ADMIN: address_of(options.base_url, options.base_token)}, OUR_MEMBER
    admin, member = (login(options.base_clouds, name) for name in options.base_users)
    users = {
        ADMIN: address_of(options.base_url, admin.token),
        MEMBER: address_of(options.base_url, member.token),
    }
    return users, member.project


LIST = Item(
    "list",
    "indexed: with `imgservice db index add`",
    measure,
)
