"""What must be right before the service starts, found out before anything is started."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from imgservice.auth.keystone.errors import KeystoneError
from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.db.engine.url import UrlError, sqlite_files
from imgservice.db.schema.upgrade import SchemaError, check_schema, upgrade
from imgservice.http.pipeline import PipelineError, check_order
from imgservice.process.addresses import Address, ListenError, read_address
from imgservice.process.tls.files import read_material
from imgservice.process.tls.material import TlsMaterial
from imgservice.store.interface import StoreError
from imgservice.wiring.api import make_schemas
from imgservice.wiring.authentication import make_authentication
from imgservice.wiring.keystone import keystone_mistake, make_keystone_tokens
from imgservice.wiring.limits import make_limits
from imgservice.wiring.nodes import make_forwarder, make_nodes
from imgservice.wiring.policy import make_rules
from imgservice.wiring.protections import make_property_rules
from imgservice.wiring.stores import make_choice, make_fetcher, make_stores
from imgservice.wiring.writable import NotWritable, check_file, check_folder

_NO_REACTOR = cast(Reactor, None)
"""For what is only made to see that it can be: it is never used."""


def preflight(config: Config) -> None:
    """Bring the database to its present shape, and see that every store takes data.

    `OptionError` tells what stands in the way. The values must have been checked.
    """
    check_database_files(config)
    _ask_database(config, upgrade)
    check_stores(config)


def check_database(config: Config) -> None:
    """See that the database could be used; changes nothing in it."""
    _ask_database(config, check_schema)


def _ask_database(config: Config, ask: Callable[[str], object]) -> None:
    try:
        ask(config.database.url.reveal())
    except (SchemaError, UrlError) as error:
        raise OptionError(("database", "url"), str(error)) from None


def check_database_files(config: Config) -> None:
    """See that this user can write the files of an embedded database, and make missing ones."""
    try:
        for path in sqlite_files(config.database.url.reveal()):
            check_file(path)
            check_folder(path.parent)
    except (NotWritable, UrlError) as error:
        raise OptionError(("database", "url"), str(error)) from None


def check_state_file(config: Config) -> None:
    """See that this user can write where we tell how we are."""
    if config.server.state_file is not None:
        path = Path(config.server.state_file)
        if path.is_dir():
            raise OptionError(("server", "state_file"), f"{path} is a directory")
        _check_writable(("server", "state_file"), path.parent, check_folder)  # it is replaced


def check_log_file(config: Config) -> None:
    """See that the log can be written by the user that starts the service."""
    if config.logging.file is not None:
        path = Path(config.logging.file)
        _check_writable(("logging", "file"), path)
        if not path.parent.is_dir():  # unlike others, it is not made
            raise OptionError(("logging", "file"), f"there is no directory {path.parent}")


def check_sockets(config: Config) -> None:
    """See that Unix sockets can be made by the user that starts the service."""
    for index, address in enumerate(addresses(config)):
        if address.kind == "unix":
            place = ("server", "listen", index)
            folder = Path(address.host).parent
            if not folder.is_dir():
                raise OptionError(place, f"{address.description!r}: there is no directory {folder}")
            _check_writable(place, folder, check_folder)


def _check_writable(
    option: Sequence[str | int], path: Path, check: Callable[[Path], None] = check_file
) -> None:
    try:
        check(path)
    except NotWritable as error:
        raise OptionError(option, str(error)) from None


def check_values(config: Config, tell: Callable[[str], None] = lambda doubt: None) -> None:
    """Check what the types of the values cannot say; `tell` is told what may be a mistake."""
    _check_pipeline(config)
    _check_exposure(config)
    _check_choice(config)
    make_schemas(config)
    make_property_rules(config, make_rules(config, tell), tell)
    _check_authentication(config)
    make_limits(config, _NO_REACTOR)
    make_nodes(config)
    make_forwarder(config, _NO_REACTOR)


def _check_pipeline(config: Config) -> None:
    try:
        check_order(config.pipeline)
    except PipelineError as error:
        raise OptionError(("pipeline", error.position), str(error)) from None


def _check_exposure(config: Config) -> None:
    auth, danger = config.auth, ""
    if auth.mode == "none" and not auth.none.anywhere:
        danger = (
            "lets everybody do everything; listen on 127.0.0.1, choose another auth.mode, or set"
            " auth.none.anywhere: true"
        )
    elif auth.mode in ("basic", "tokens") and not (config.server.tls or auth.clear_text):
        danger = (
            "needs TLS there, or passwords and tokens can be read on the way; set server.tls,"
            " listen on 127.0.0.1 behind a proxy that does TLS, or set auth.clear_text: true"
        )
    for index, address in enumerate(addresses(config)):
        if danger and not address.is_loopback:
            raise OptionError(
                ("server", "listen", index),
                f"{address.description!r} can be reached from other machines, and auth.mode"
                f" {auth.mode} {danger}",
            )


def _check_choice(config: Config) -> None:
    reactor = _Waiting()
    threads = Threads(reactor, 1, "check")
    try:
        make_choice(config, make_stores(config, threads, make_fetcher(config, _NO_REACTOR)))
    finally:
        threads.stop()


def _check_authentication(config: Config) -> None:
    """Read the files of users, tokens and certificates, as the service will."""
    make_authentication(config, _NO_REACTOR)


def addresses(config: Config) -> tuple[Address, ...]:
    """Read where to listen; listens on nothing."""
    found = []
    for index, description in enumerate(config.server.listen):
        try:
            found.append(read_address(description, config.server.backlog, index))
        except ListenError as error:
            raise OptionError(("server", "listen", index), str(error)) from None
    return tuple(found)


def tls_material(config: Config) -> TlsMaterial | None:
    """Read the files of `server.tls`, if there are any."""
    if config.server.tls is None:
        return None
    try:
        return read_material(config.server.tls)
    except ListenError as error:
        raise OptionError(("server", "tls"), str(error)) from None


def check_keystone(config: Config, reactor: Reactor) -> None:
    """Ask Keystone whether it knows us; runs the reactor, which a process may do once."""
    if config.auth.mode != "keystone":
        return
    tokens, failures = make_keystone_tokens(config, reactor), []

    async def ask() -> None:
        try:
            await tokens.check()
        except KeystoneError as error:
            failures.append(error)
        finally:
            await tokens.close()
            reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(ask()))
    reactor.run()
    if failures:
        raise keystone_mistake(failures[0], config.auth.keystone)


def check_stores(config: Config) -> None:
    """Ask every store whether it takes data."""
    reactor = _Waiting()
    threads = Threads(reactor, 1, "check")
    try:
        stores = make_stores(config, threads, make_fetcher(config, _NO_REACTOR))
        for store_id, store in stores.items():
            try:
                reactor.wait(store.check)
            except StoreError as error:
                # The message for users names no path; the operator's does.
                told = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
                raise OptionError(("stores", store_id), told) from None
    finally:
        threads.stop()


class _Waiting:
    """As much of a reactor as threads need, run only while somebody waits for their work."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        self._calls.put(lambda: function(*args, **kwargs))

    def wait(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` to its end, and raise what it raised."""

        async def run() -> None:
            await work()

        ended: list[object] = []
        Deferred.fromCoroutine(run()).addBoth(ended.append)
        while not ended:
            self._calls.get()()
        if isinstance(ended[0], Failure):
            ended[0].raiseException()
