"""Alembic's entry to the tree of Glance's schema."""

from imgservice.db.migrations.environment import migrate
from imgservice.db.schema.tables import GLANCE_VERSION_TABLE, glance_metadata

migrate(glance_metadata, GLANCE_VERSION_TABLE)
