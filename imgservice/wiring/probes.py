"""The probes of what was built."""

from collections.abc import Mapping, Sequence
from functools import partial

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
