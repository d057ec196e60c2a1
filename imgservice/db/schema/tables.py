"""The tables: Glance's own, exactly as at its revision 2024_1_contract01, and ours beside them.

A database may be shared with running Glance nodes, so nothing here that belongs to Glance may
differ from what Glance itself creates: names, types, constraints, indexes.
"""

import sqlalchemy as sa

GLANCE_REVISION = "2024_1_contract01"
GLANCE_EXPANDED = "2024_1_expand01"
"""Stands beside the previous contract revision while a Glance upgrade is half done."""
GLANCE_VERSION_TABLE = "alembic_version"

OWN_REVISION = "0003_jobs"
OWN_PREFIX = "imgsvc_"
OWN_VERSION_TABLE = "imgsvc_alembic_version"

glance_metadata = sa.MetaData()
own_metadata = sa.MetaData()

# SQLite numbers rows by itself only for a key of the type INTEGER.
_BIG_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ID = sa.String(36)


def _checked_boolean() -> sa.Boolean:
    """A boolean that a database without that type guards by a CHECK."""
    return sa.Boolean(create_constraint=True)


@sa.event.listens_for(glance_metadata, "before_create")
def _as_glance_creates_them(metadata: sa.MetaData, *_: object, **__: object) -> None:
    """Set the options of MariaDB, for which SQLAlchemy imports its whole dialect."""
    for table in metadata.tables.values():
        table.dialect_kwargs.update(mysql_engine="InnoDB", mysql_charset="utf8")


def _table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(name, glance_metadata, *items)


def _made_and_changed() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime),
    )


def _soft_delete(flag: sa.Boolean | None = None) -> tuple[sa.Column[object], ...]:
    return (
        *_made_and_changed(),
        sa.Column("deleted_at", sa.DateTime),
        sa.Column("deleted", flag or _checked_boolean(), nullable=False),
    )


def _image_id() -> sa.Column[str]:
    return sa.Column("image_id", _ID, sa.ForeignKey("images.id"), nullable=False)


images = _table(
    "images",
    sa.Column("id", _ID, primary_key=True),
    sa.Column("name", sa.String(255)),
    sa.Column("size", _BIG_INTEGER),
    sa.Column("status", sa.String(30), nullable=False),
    *_soft_delete(sa.Boolean()),
    sa.Column("disk_format", sa.String(20)),
    sa.Column("container_format", sa.String(20)),
    sa.Column("checksum", sa.String(32)),
    sa.Column("owner", sa.String(255)),
    sa.Column("min_disk", sa.Integer, nullable=False),
    sa.Column("min_ram", sa.Integer, nullable=False),
    sa.Column("protected", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("virtual_size", _BIG_INTEGER),
    sa.Column(
        "visibility",
        sa.Enum("private", "public", "shared", "community", name="image_visibility"),
        nullable=False,
        server_default="shared",
    ),
    sa.Column("os_hidden", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("os_hash_algo", sa.String(64)),
    sa.Column("os_hash_value", sa.String(128)),
    sa.Index("checksum_image_idx", "checksum"),
    sa.Index("visibility_image_idx", "visibility"),
    sa.Index("ix_images_deleted", "deleted"),
    sa.Index("owner_image_idx", "owner"),
    sa.Index("created_at_image_idx", "created_at"),
    sa.Index("updated_at_image_idx", "updated_at"),
    sa.Index("os_hidden_image_idx", "os_hidden"),
    sa.Index("os_hash_value_image_idx", "os_hash_value"),
)

image_properties = _table(
    "image_properties",
    sa.Column("id", sa.Integer, primary_key=True),
    _image_id(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("value", sa.Text),
    *_soft_delete(),
    # A removed property keeps its row: this key knows nothing of `deleted`.
    sa.UniqueConstraint("image_id", "name", name="ix_image_properties_image_id_name"),
    sa.Index("ix_image_properties_image_id", "image_id"),
    sa.Index("ix_image_properties_deleted", "deleted"),
)

image_locations = _table(
    "image_locations",
    sa.Column("id", sa.Integer, primary_key=True),
    _image_id(),
    sa.Column("value", sa.Text, nullable=False),
    *_soft_delete(),
    sa.Column("meta_data", sa.Text),
    sa.Column("status", sa.String(30), nullable=False, server_default="active"),
    sa.Index("ix_image_locations_image_id", "image_id"),
    sa.Index("ix_image_locations_deleted", "deleted"),
)

image_members = _table(
    "image_members",
    sa.Column("id", sa.Integer, primary_key=True),
    _image_id(),
    sa.Column("member", sa.String(255), nullable=False),
    sa.Column("can_share", _checked_boolean(), nullable=False),
    *_soft_delete(),
    sa.Column("status", sa.String(20), nullable=False, server_default="pending"),
    sa.UniqueConstraint(
        "image_id", "member", "deleted_at", name="image_members_image_id_member_deleted_at_key"
    ),
    sa.Index("ix_image_members_deleted", "deleted"),
    sa.Index("ix_image_members_image_id", "image_id"),
    sa.Index("ix_image_members_image_id_member", "image_id", "member"),
)

image_tags = _table(
    "image_tags",
    sa.Column("id", sa.Integer, primary_key=True),
    _image_id(),
    sa.Column("value", sa.String(255), nullable=False),
    *_soft_delete(),
    sa.Index("ix_image_tags_image_id", "image_id"),
    sa.Index("ix_image_tags_image_id_tag_value", "image_id", "value"),
)

tasks = _table(
    "tasks",
    sa.Column("id", _ID, primary_key=True),
    sa.Column("type", sa.String(30), nullable=False),
    sa.Column("status", sa.String(30), nullable=False),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("expires_at", sa.DateTime),
    *_soft_delete(),
    sa.Column("image_id", _ID),
    sa.Column("request_id", sa.String(64)),
    sa.Column("user_id", sa.String(64)),
    sa.Index("ix_tasks_type", "type"),
    sa.Index("ix_tasks_status", "status"),
    sa.Index("ix_tasks_owner", "owner"),
    sa.Index("ix_tasks_deleted", "deleted"),
    sa.Index("ix_tasks_image_id", "image_id"),
    sa.Index("ix_tasks_updated_at", "updated_at"),
)

task_info = _table(
    "task_info",
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("input", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("message", sa.Text),
)

node_reference = _table(
    "node_reference",
    sa.Column("node_reference_id", _BIG_INTEGER, primary_key=True),
    sa.Column("node_reference_url", sa.String(255), nullable=False),
    sa.UniqueConstraint("node_reference_url", name="uq_node_reference_node_reference_url"),
)

cached_images = _table(
    "cached_images",
    sa.Column("id", _BIG_INTEGER, primary_key=True),
    sa.Column("image_id", _ID, nullable=False),
    sa.Column("last_accessed", sa.DateTime, nullable=False),
    sa.Column("last_modified", sa.DateTime, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("hits", sa.Integer, nullable=False),
    sa.Column("checksum", sa.String(32)),
    sa.Column(
        "node_reference_id",
        _BIG_INTEGER,
        sa.ForeignKey("node_reference.node_reference_id"),
        nullable=False,
    ),
    sa.UniqueConstraint(
        "image_id", "node_reference_id", name="ix_cached_images_image_id_node_reference_id"
    ),
)

metadef_namespaces = _table(
    "metadef_namespaces",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("namespace", sa.String(80), nullable=False),
    sa.Column("display_name", sa.String(80)),
    sa.Column("description", sa.Text),
    sa.Column("visibility", sa.String(32)),
    sa.Column("protected", _checked_boolean()),
    sa.Column("owner", sa.String(255), nullable=False),
    *_made_and_changed(),
    sa.UniqueConstraint("namespace", name="uq_metadef_namespaces_namespace"),
    sa.Index("ix_metadef_namespaces_owner", "owner"),
)


def _namespace_id(primary_key: bool = False) -> sa.Column[int]:
    namespace = sa.ForeignKey("metadef_namespaces.id")
    return sa.Column("namespace_id", sa.Integer, namespace, primary_key=primary_key, nullable=False)


metadef_objects = _table(
    "metadef_objects",
    sa.Column("id", sa.Integer, primary_key=True),
    _namespace_id(),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("required", sa.Text),
    sa.Column("json_schema", sa.Text, nullable=False),
    *_made_and_changed(),
    sa.UniqueConstraint("namespace_id", "name", name="uq_metadef_objects_namespace_id_name"),
    sa.Index("ix_metadef_objects_name", "name"),
)

metadef_properties = _table(
    "metadef_properties",
    sa.Column("id", sa.Integer, primary_key=True),
    _namespace_id(),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("json_schema", sa.Text, nullable=False),
    *_made_and_changed(),
    sa.UniqueConstraint("namespace_id", "name", name="uq_metadef_properties_namespace_id_name"),
    sa.Index("ix_metadef_properties_name", "name"),
)

metadef_resource_types = _table(
    "metadef_resource_types",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("protected", _checked_boolean(), nullable=False),
    *_made_and_changed(),
    sa.UniqueConstraint("name", name="uq_metadef_resource_types_name"),
)

metadef_namespace_resource_types = _table(
    "metadef_namespace_resource_types",
    sa.Column(
        "resource_type_id",
        sa.Integer,
        sa.ForeignKey("metadef_resource_types.id"),
        primary_key=True,
    ),
    _namespace_id(primary_key=True),
    sa.Column("properties_target", sa.String(80)),
    sa.Column("prefix", sa.String(80)),
    *_made_and_changed(),
    sa.Index("ix_metadef_ns_res_types_namespace_id", "namespace_id"),
)

metadef_tags = _table(
    "metadef_tags",
    sa.Column("id", sa.Integer, primary_key=True),
    _namespace_id(),
    sa.Column("name", sa.String(80), nullable=False),
    *_made_and_changed(),
    sa.UniqueConstraint("namespace_id", "name", name="uq_metadef_tags_namespace_id_name"),
    sa.Index("ix_metadef_tags_name", "name"),
)

leases = sa.Table(
    "imgsvc_leases",
    own_metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("image_id", sa.String(36), nullable=False),
    sa.Column("holder", sa.String(255), nullable=False),
    sa.Column("store", sa.String(255)),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False),
    sa.Column("project", sa.String(255)),
    sa.Column("reserved", sa.BigInteger),
    sa.Column("payload", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("not_before", sa.DateTime),
    sa.Column("error", sa.String(255)),
    sa.Column("cancelled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("ix_imgsvc_leases_image_id", "image_id"),
    sa.Index("ix_imgsvc_leases_holder", "holder"),
    sa.Index("ix_imgsvc_leases_project", "project"),
)
"""The jobs, each with the lease of the process that runs it, which is its `holder`.

An empty `holder` is that of a job that waits until `not_before` for its next attempt. `project` is
charged for `reserved` bytes until the job ends.
"""

projects = sa.Table(
    "imgsvc_projects",
    own_metadata,
    sa.Column("project", sa.String(255), primary_key=True),
)
"""Whoever adds to what a project has locks its row first, so that limits hold."""
