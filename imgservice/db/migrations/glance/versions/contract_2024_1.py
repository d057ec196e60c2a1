"""Glance's tables, for a new database, as every Glance since 2024.1 has them.

Glance's own revision of this name has ancestors; a database made here starts with it.
"""

from alembic import op

from imgservice.db.schema.tables import glance_metadata

revision = "2024_1_contract01"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Where creating tables cannot be undone, some may be there since a start that was killed.
    glance_metadata.create_all(op.get_bind())
