"""The probes of what was built."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from imgservice.auth.keystone import client, tokens
from imgservice.auth.keystone.client import KeystoneClient
from imgservice.auth.keystone.errors import CredentialsRefused
from imgservice.auth.keystone.tokens import KeystoneTokens
from imgservice.config.sections import Config
from imgservice.db.engine.database import Database
from imgservice.db.engine.url import database_address
from imgservice.db.probe import probe as probe_database
from imgservice.process.probes import Probe
from imgservice.store.interface import Store, TellsTrouble
from imgservice.troubles import Troubles

DATABASE = "database"


def database_name(config: Config) -> str:
    return f"Database {database_address(config.database.url.reveal())}"


def database_probe(config: Config, database: Database) -> Probe:
    return Probe(DATABASE, database_name(config), partial(probe_database, database))


def store_probes(stores: Mapping[str, Store], default: str, troubles: Troubles) -> Sequence[Probe]:
    """Return probes of the stores that can report troubles, and let them report.

    Only the default store is essential: without it there are no uploads.
    """
    probes = []
    for store_id, store in stores.items():
        if isinstance(store, TellsTrouble):
            key, what = f"store {store_id}", f"Store {store_id} at {store.place}"
            is_default = store_id == default
            store.tell = partial(_report, troubles, key, what, is_default)
            probes.append(Probe(key, what, store.probe, is_default))
    return probes


def _report(troubles: Troubles, key: str, what: str, is_essential: bool, why: str) -> None:
    troubles.report(key, what, why, is_essential)


def keystone_probe(asked: KeystoneClient, timeout: float) -> Probe:
    return Probe(client.TROUBLE, asked.what, lambda _: asked.probe(timeout), only_in_trouble=True)


def keystone_probes(validation: KeystoneTokens) -> Sequence[Probe]:
    """Return probes that tell when Keystone works again; that it fails, requests find out."""

    async def see_that_it_answers(_: bool) -> None:
        with suppress(CredentialsRefused):  # which is the other probe's affair
            await validation.check()

    return [
        Probe(client.TROUBLE, validation.client.what, see_that_it_answers, only_in_trouble=True),
        Probe(tokens.TROUBLE, tokens.WHAT, lambda _: validation.check(), only_in_trouble=True),
    ]
