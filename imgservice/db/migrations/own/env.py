"""Alembic's entry to the tree of our own tables."""

from imgservice.db.migrations.environment import migrate
from imgservice.db.schema.tables import OWN_VERSION_TABLE, own_metadata

migrate(own_metadata, OWN_VERSION_TABLE)
