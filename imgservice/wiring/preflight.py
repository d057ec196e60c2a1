"""Checks and prepares everything that the service needs, before it serves."""

from collections.abc import Callable

from twisted.internet.defer import Deferred

from imgservice.concurrency.reactor import Reactor
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.db.engine.url import UrlError
from imgservice.db.schema.database import SchemaError
from imgservice.db.schema.upgrade import check_schema, upgrade
from imgservice.wiring.trial import check_stores
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


def check_keystone(config: Config, reactor: Reactor) -> None:
    """Check our credentials in Keystone; runs the reactor, which a process may do once."""
    if config.auth.mode != "keystone":
        return
    from imgservice.keystone.errors import KeystoneError
    from imgservice.wiring.keystone import keystone_mistake, make_keystone_tokens

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
