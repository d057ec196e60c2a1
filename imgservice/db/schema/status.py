"""What has to be done next to bring a database to the present revisions, in Glance's steps."""

import re
from collections.abc import Set
from enum import IntEnum

from imgservice.db.schema.tables import GLANCE_EXPANDED, GLANCE_REVISION, OWN_REVISION
from imgservice.db.schema.upgrade import SchemaState, accepted

_OLDER = re.compile(
    r"liberty|mitaka0[12]|ocata01|pike01"
    r"|(ocata|pike|queens|rocky|train|ussuri|wallaby|xena|yoga|zed|2023_1)_(expand|contract)0\d"
)
"""Glance's revisions before the present one."""


class SchemaStatus(IntEnum):
    """What has to be done first; the numbers up to 5 are the exit codes of `glance-manage`.

    4, for data that has to be migrated, is missing: the present revision of Glance has none.
    """

    UP_TO_DATE = 0
    EXPAND = 3
    CONTRACT = 5
    OWN = 6


def schema_status(state: SchemaState) -> SchemaStatus:
    """Return what has to be done next; `SchemaError` when nothing leads to the present ones."""
    if not state.tables - state.unfinished:
        return SchemaStatus.EXPAND
    if GLANCE_EXPANDED in state.glance and GLANCE_REVISION not in state.glance:
        if _are_older(state.glance - {GLANCE_EXPANDED}):
            return SchemaStatus.CONTRACT
    elif state.glance and _are_older(state.glance):
        return SchemaStatus.EXPAND
    return SchemaStatus.UP_TO_DATE if accepted(state).own == {OWN_REVISION} else SchemaStatus.OWN


def _are_older(revisions: Set[str]) -> bool:
    return all(_OLDER.fullmatch(revision) for revision in revisions)


def advice(state: SchemaState, found: SchemaStatus) -> str:
    """Say what to do in one line."""
    if found is SchemaStatus.UP_TO_DATE:
        return "The database is up to date."
    if found is SchemaStatus.OWN:
        return (
            "The tables imgsvc_* are missing or older:"
            " the next start of the service, or `imgservice db sync`, upgrades them."
        )
    if not state.glance:
        return (
            "The database has no tables yet:"
            " the first start of the service, or `imgservice db sync`, makes them."
        )
    if found is SchemaStatus.CONTRACT:
        return (
            "The upgrade of Glance's tables is not finished: `glance-manage db contract` is next."
        )
    return (
        f"Glance's tables are older than {GLANCE_REVISION}:"
        " `glance-manage db expand`, or `db sync`, of Glance 2024.1 or later is next."
    )
