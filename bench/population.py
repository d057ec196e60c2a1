"""Databases full of images: the same ones for every server that lists them."""

import datetime
import json
import random
import uuid
from collections.abc import Iterator

import attrs

Row = tuple[object, ...]
Rows = dict[str, list[Row]]

COLUMNS = {
    "images": (
        "id", "name", "size", "status", "created_at", "updated_at", "deleted", "disk_format",
        "container_format", "checksum", "owner", "min_disk", "min_ram", "protected", "virtual_size",
        "visibility", "os_hidden", "os_hash_algo", "os_hash_value",
    ),
    "image_properties": ("image_id", "name", "value", "created_at", "updated_at", "deleted"),
    "image_tags": ("image_id", "value", "created_at", "updated_at", "deleted"),
    "image_locations": (
        "image_id", "value", "meta_data", "status", "created_at", "updated_at", "deleted",
    ),
    "image_members": (
        "image_id", "member", "can_share", "status", "created_at", "updated_at", "deleted",
    ),
}  # fmt: skip
CHILDREN = tuple(COLUMNS)[1:]
PLACE = "file:///bench/"
"""How the locations of all these images begin, and of no others."""
BEGIN = datetime.datetime(2020, 1, 1)
BETWEEN = datetime.timedelta(seconds=61, microseconds=7)
NAMESPACE = uuid.UUID("7a1d3a3e-0d5f-4a8c-8a54-6a2f2b1f7c10")
BATCH = 20_000
PROJECTS = 1000
FAMILIES = 50
ARCHITECTURES = ("x86_64", "aarch64", "ppc64le", "s390x")
RARE = "one-in-a-thousand"
FORMATS = ("qcow2", "raw", "vmdk", "iso")


@attrs.frozen
class Population:
    """`count` images of many projects, of which the project `member` sees few.

    What it sees stops growing with the rest: a cloud grows by projects.
    """

    count: int
    member: str

    @property
    def own(self) -> int:
        """How many images the member's project owns."""
        return max(40, min(1000, self.count // 100))

    @property
    def public(self) -> int:
        return max(40, min(100, self.count // 1000))

    @property
    def shared(self) -> int:
        """How many of other projects are shared with the member: three in four accepted."""
        return max(4, min(48, self.count // 2000))

    def place_seen(self, part: float) -> str:
        """Return the id of one of the member's own images, `part` (0 to 1) of the way back."""
        step = self.count // self.own
        return image_id(step * int((1 - part) * (self.own - 1)))

    def batches(self) -> Iterator[Rows]:
        """Yield the rows of all tables, oldest images first; always the same ones."""
        chance = random.Random(self.count)
        for begin in range(0, self.count, BATCH):
            rows: Rows = {table: [] for table in COLUMNS}
            for number in range(begin, min(begin + BATCH, self.count)):
                self._image(rows, number, chance)
            yield rows

    def _image(self, rows: Rows, number: int, chance: random.Random) -> None:
        made = _written(BEGIN + number * BETWEEN)
        changed = _written(BEGIN + (number + 1000 * chance.random()) * BETWEEN)
        times: Row = (made, changed, False)
        this = image_id(number)
        owner, visibility, member = self._seen_by(number)
        image = {
            "id": this,
            "name": f"image-{chance.randrange(self.count):07}",
            "size": chance.randrange(10**6, 10**10),
            "status": "active" if number % 20 else "queued",
            "created_at": made,
            "updated_at": changed,
            "deleted": False,
            "disk_format": FORMATS[number % 4],
            "container_format": "bare",
            "checksum": f"{number:032x}",
            "owner": owner,
            "min_disk": 0,
            "min_ram": 0,
            "protected": False,
            "virtual_size": 10**10,
            "visibility": visibility,
            "os_hidden": False,
            "os_hash_algo": "sha512",
            "os_hash_value": f"{number:0128x}",
        }
        rows["images"].append(tuple(image[column] for column in COLUMNS["images"]))
        rows["image_properties"] += [
            (this, name, value, *times) for name, value in _properties(number)
        ]
        rows["image_tags"] += [(this, tag, *times) for tag in _tags(number)]
        where = f"{PLACE}{this}"
        rows["image_locations"].append(
            (this, where, json.dumps({"store": "local"}), "active", *times)
        )
        if member:
            status = "pending" if number % 4 == 0 else "accepted"
            rows["image_members"].append((this, member, False, status, *times))

    def _seen_by(self, number: int) -> tuple[str, str, str | None]:
        """Return the owner, the visibility, and with which project the image is shared."""
        other = f"bench-{number % min(PROJECTS, self.count // 10)}"
        if number % (self.count // self.own) == 0:
            return self.member, "private", None
        if number % (self.count // self.public) == 1:
            return other, "public", None
        if number % (self.count // self.shared) == 2:
            return other, "shared", self.member
        if number % 20 == 3:
            return other, "shared", f"bench-{(number * 7) % PROJECTS}"
        return other, "shared" if number % 2 else "private", None


def image_id(number: int) -> str:
    """Return an id that looks as random as any."""
    return str(uuid.uuid5(NAMESPACE, str(number)))


def _written(moment: datetime.datetime) -> str:
    return moment.isoformat(" ", "microseconds")


def _properties(number: int) -> Iterator[tuple[str, str]]:
    yield "architecture", ARCHITECTURES[number % 4]
    yield "os_distro", f"distribution-{number % FAMILIES}"
    yield "hw_disk_bus", "virtio"
    yield "build", RARE if number % 1000 == 7 else f"build-{number}"


def _tags(number: int) -> tuple[str, str]:
    return (
        "weekly" if number % 2 else "daily",
        RARE if number % 1000 == 7 else f"team-{number % FAMILIES}",
    )
