"""Checks and prepares everything that the service needs, before it serves."""

from collections.abc import Awaitable, Callable, Iterator

from twisted.internet.defer import Deferred

from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.db.engine.url import UrlError
from imgservice.db.schema.database import SchemaError
from imgservice.db.schema.upgrade import check_schema, upgrade
from imgservice.wiring.stores import close_stores, connects, make_stores
from imgservice.wiring.trial import check_store, check_stores
from imgservice.wiring.writable import check_database_files


def preflight(config: Config) -> None:
    """Upgrade the database, and check that stores take data; the service is known to be buildable.

    `OptionError` says what does not work.
    """
    check_database_files(config)
    _ask_database(config, upgrade)
    check_stores(config)


def check_database(config: Config) -> None:
    """Check that the database can be used; changes nothing in it."""
    _ask_database(config, check_schema)


def _ask_database(config: Config, ask: Callable[[str], object]) -> None:
    try:
        ask(config.database.url.reveal())
    except (SchemaError, UrlError) as error:
        raise OptionError(("database", "url"), str(error)) from None


def check_servers(config: Config, reactor: Reactor) -> None:
    """Check our credentials in Keystone, and the stores that connect to servers.

    Runs the reactor, which a process may do once.
    """
    checks = [*_keystone_checks(config, reactor), *_store_checks(config, reactor)]
    if not checks:
        return
    mistakes: list[OptionError] = []

    async def check_all() -> None:
        try:
            for check in checks:
                await check()
        except OptionError as error:
            mistakes.append(error)
        finally:
            reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(check_all()))
    reactor.run()
    if mistakes:
        raise mistakes[0]


ServerCheck = Callable[[], Awaitable[None]]


def _keystone_checks(config: Config, reactor: Reactor) -> Iterator[ServerCheck]:
    if config.auth.mode != "keystone":
        return
    from imgservice.keystone.errors import KeystoneError
    from imgservice.wiring.keystone import keystone_mistake, make_keystone_tokens

    tokens = make_keystone_tokens(config, reactor)

    async def check() -> None:
        try:
            await tokens.check()
        except KeystoneError as error:
            raise keystone_mistake(error, config.auth.keystone) from None
        finally:
            await tokens.close()

    yield check


def _store_checks(config: Config, reactor: Reactor) -> Iterator[ServerCheck]:
    remote = [store_id for store_id in config.stores if connects(config, store_id)]
    if not remote:
        return
    threads = Threads(reactor, 1, "check")
    stores = make_stores(config, threads, reactor)

    async def check() -> None:
        try:
            for store_id in remote:
                await check_store(store_id, stores[store_id])
        finally:
            await close_stores(stores)
            threads.stop()

    yield check
