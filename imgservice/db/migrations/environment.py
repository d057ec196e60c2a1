"""How both trees of migrations run: on the connection, and in the transaction, of the caller."""

import sqlalchemy as sa
from alembic import context


def migrate(metadata: sa.MetaData, version_table: str) -> None:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        version_table=version_table,
        # Alembic believes that SQLite cannot roll back a CREATE TABLE, which is not so.
        transactional_ddl=True,
    )
    context.run_migrations()
