"""What uploads reserve, and a row for each project to count under."""

import sqlalchemy as sa
from alembic import op

revision = "0002_quotas"
down_revision = "0001_leases"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("imgsvc_leases", sa.Column("project", sa.String(255)))
    op.add_column("imgsvc_leases", sa.Column("reserved", sa.BigInteger))
    op.create_index("ix_imgsvc_leases_project", "imgsvc_leases", ["project"])
    op.create_table(
        "imgsvc_projects",
        sa.Column("project", sa.String(255), primary_key=True),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )
