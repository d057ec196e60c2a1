"""Our first table: leases."""

import sqlalchemy as sa
from alembic import op

revision = "0001_leases"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "imgsvc_leases",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("image_id", sa.String(36), nullable=False),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("store", sa.String(255)),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("expires_at", sa.DateTime, nullable=False),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )
    op.create_index("ix_imgsvc_leases_image_id", "imgsvc_leases", ["image_id"])
    op.create_index("ix_imgsvc_leases_holder", "imgsvc_leases", ["holder"])
