"""Images as rows: which columns a read selects, and the values to and from them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa

from imgservice.db.engine.aggregate import if_short, json_array, json_object, unindexed
from imgservice.db.engine.statement import Parameters, Row
from imgservice.db.schema.tables import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from imgservice.domain.image import Image, Location, Status, Visibility

T = TypeVar("T")

_STATUSES = {status.value: status for status in Status}
_VISIBILITIES = {visibility.value: visibility for visibility in Visibility}

IMAGE_COLUMNS = (
    "id", "status", "created_at", "updated_at", "name", "owner", "visibility", "protected",
    "os_hidden", "disk_format", "container_format", "min_disk", "min_ram", "size", "virtual_size",
    "checksum", "os_hash_algo", "os_hash_value",
)  # fmt: skip
PROPERTIES, TAGS, LOCATIONS = range(len(IMAGE_COLUMNS), len(IMAGE_COLUMNS) + 3)
"""Where the rest is in a row of `image_columns`."""


def utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def is_live(table: sa.Table) -> sa.ColumnElement[bool]:
    """The row is not deleted."""
    return unindexed(table.c.deleted) == sa.false()


def of_image(table: sa.Table, column: sa.ColumnElement[T]) -> sa.Select[T]:
    """Select a column of the live rows that belong to the image of the outer statement."""
    return sa.select(column).where(table.c.image_id == images.c.id, is_live(table))


def active_locations(short: str | None = None) -> sa.Select[str]:
    """Select the text for `to_locations`."""
    columns = image_locations.c
    found = json_array(columns.id, columns.value, columns.meta_data)
    return of_image(
        image_locations, _if_short(short, found, columns.value, columns.meta_data)
    ).where(columns.status == "active")


def image_columns(member: str, short: str | None = None) -> tuple[sa.ColumnElement[object], ...]:
    """Return the columns to select from `images` for `to_image`, one row for each image.

    `member` names the parameter with the project whose membership is wanted. `short` names the one
    with the length above which only "+" and a length are returned of properties, tags or locations.
    """
    properties, tags = image_properties.c, image_tags.c
    name, value = properties.name, properties.value
    return (
        *(_untyped(images.c[name]) for name in IMAGE_COLUMNS),
        of_image(
            image_properties, _if_short(short, json_object(name, value), name, value)
        ).scalar_subquery(),
        of_image(
            image_tags, _if_short(short, json_array(tags.value), tags.value)
        ).scalar_subquery(),
        active_locations(short).scalar_subquery(),
        of_image(image_members, image_members.c.status)
        .where(image_members.c.member == sa.bindparam(member))
        .limit(1)
        .scalar_subquery(),
    )


def _if_short(
    short: str | None, found: sa.ColumnElement[str], *texts: sa.ColumnElement[str]
) -> sa.ColumnElement[str]:
    if short is None:
        return found
    return if_short(found, sa.bindparam(short, type_=sa.BigInteger), *texts)


def _untyped(column: sa.Column[object]) -> sa.ColumnElement[object]:
    """Read enumerations as text: `to_image` converts them, more cheaply than SQLAlchemy."""
    return sa.type_coerce(column, sa.String) if isinstance(column.type, sa.Enum) else column


def to_image(row: Row) -> Image:
    """Return the image of a row of `image_columns`."""
    (
        image_id, status, created_at, updated_at, name, owner, visibility, protected,
        os_hidden, disk_format, container_format, min_disk, min_ram, size, virtual_size,
        checksum, os_hash_algo, os_hash_value, properties, tags, locations, membership,
    ) = row  # fmt: skip
    return Image(
        id=image_id,
        status=_STATUSES[status],
        created_at=created_at,
        updated_at=updated_at or created_at,
        name=name,
        owner=owner,
        visibility=_VISIBILITIES[visibility],
        protected=protected,
        os_hidden=os_hidden,
        disk_format=disk_format,
        container_format=container_format,
        min_disk=min_disk,
        min_ram=min_ram,
        size=size,
        virtual_size=virtual_size,
        checksum=checksum,
        os_hash_algo=os_hash_algo,
        os_hash_value=os_hash_value,
        tags=tuple(sorted(_items(tags))),
        properties=_members(properties),
        locations=to_locations(locations),
        membership=membership,
    )


def to_locations(text: str | None) -> tuple[Location, ...]:
    """Return the locations of `active_locations`, in the order in which they were added."""
    return tuple(to_location(url, metadata, row) for row, url, metadata in sorted(_items(text)))


def to_location(url: str, metadata: str | None, row: int | None = None) -> Location:
    return Location(url, _members(metadata), row)


def _items(text: str | None) -> list[Any]:
    return orjson.loads(text) if text else []


def _members(text: str | None) -> Mapping[str, Any]:
    return orjson.loads(text) if text else {}


def image_row(image: Image) -> Parameters:
    """Return the values of a new row in `images`."""
    row = {name: getattr(image, name) for name in IMAGE_COLUMNS}
    return row | {"status": image.status.value, "visibility": image.visibility.value}


def property_rows(image: Image) -> list[Parameters]:
    common = _common(image)
    return [{**common, "name": name, "value": value} for name, value in image.properties.items()]


def tag_rows(image: Image) -> list[Parameters]:
    common = _common(image)
    return [{**common, "value": tag} for tag in dict.fromkeys(image.tags)]


def location_rows(image: Image) -> list[Parameters]:
    return [location_row(image.id, location, image.created_at) for location in image.locations]


def metadata_text(location: Location) -> str:
    """Return the metadata as its column has it."""
    return orjson.dumps(dict(location.metadata)).decode()


def location_row(image_id: str, location: Location, now: datetime) -> Parameters:
    return {
        "image_id": image_id,
        "value": location.url,
        "meta_data": metadata_text(location),
        "status": "active",
        "created_at": now,
        "updated_at": now,
    }


def _common(image: Image) -> dict[str, object]:
    return {
        "image_id": image.id,
        "created_at": image.created_at,
        "updated_at": image.updated_at,
    }
