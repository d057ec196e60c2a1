"""Leases become jobs: what a job needs to know, its retries, and whether it is cancelled.

Columns are added to the table of leases, and none is renamed. During a rolling upgrade, nodes of
the previous version work with the same rows: they name the columns that they read and write, so
each new column can be left out of an INSERT. Both versions see each other's leases renewed, and
clean up behind each other; a job that waits for its next attempt has an empty `holder`, which to
the previous version is an owner that renews nothing: it takes the job after a minute. Reserved
bytes count for both. With a table of its own, neither version would see the other's uploads.

Jobs of later kinds may also be taken by a node of the previous version once their lease has
expired; it fails to run them, changes nothing but the owner, and loses them when it ends or renews
no lease for a minute.

A node of the previous version that is already running goes on; it cannot be started again, since it
refuses a revision that it does not know.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003_jobs"
down_revision = "0002_quotas"
branch_labels = None
depends_on = None


COLUMNS = (
    sa.Column("payload", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("not_before", sa.DateTime),
    sa.Column("error", sa.String(255)),
    sa.Column("cancelled", sa.Boolean, nullable=False, server_default=sa.false()),
)


def upgrade() -> None:
    # MariaDB cannot roll back what a process that was killed has added.
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("imgsvc_leases")}
    for column in COLUMNS:
        if column.name not in present:
            op.add_column("imgsvc_leases", column)
