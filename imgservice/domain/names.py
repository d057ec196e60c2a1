"""Names of the fields and properties of an image, and what clients may do with them."""

from imgservice.domain.errors import Forbidden

LOCATIONS = "locations"
IMAGE_FIELDS = frozenset(
    ("id", "name", "owner", "visibility", "protected", "os_hidden", "disk_format",
     "container_format", "min_disk", "min_ram", "tags")
)  # fmt: skip
"""The fields that clients may set; all other names that they choose are custom properties."""

RESERVED_NAMES = frozenset(("location", "deleted", "deleted_at"))
RESERVED_PREFIX = "os_glance"
"""Properties whose names begin so are the service's own notes."""
IMPORT_LOCK = "os_glance_import_task"
"""The property that marks an image as being imported; only the import itself touches its row."""
STAGE_HOST = "os_glance_stage_host"
"""The property with the URL of the node on which data for the image waits to be imported."""
HASH_HOST = "os_glance_hash_op_host"
"""The property with the URL of the node that reads the image's data to hash it."""
DETECTED_FORMAT = "os_glance_detected_format"
"""The property with the format of data that is declared to be in another one."""
READ_ONLY_NAMES = frozenset(
    ("id", "status", "created_at", "updated_at", "checksum", "os_hash_algo", "os_hash_value",
     "size", "virtual_size", "direct_url", "self", "file", "schema")
)  # fmt: skip
"""What a change of an image may not name."""


def check_name(name: str) -> None:
    """Raise `Forbidden` for a name that no client may write to."""
    if name in READ_ONLY_NAMES:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIX):
        raise Forbidden(f"Attribute '{name}' is reserved.")


def check_property_name(name: str) -> None:
    """Raise `Forbidden` for a name that a custom property cannot have."""
    check_name(name)
    if name == LOCATIONS:
        raise Forbidden(f"Attribute '{name}' is reserved.")
