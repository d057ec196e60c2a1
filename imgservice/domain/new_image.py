"""An image as a client describes it before there is one."""

from collections.abc import Mapping, Sequence

import attrs

from imgservice.domain.image import Visibility
from imgservice.domain.names import check_property_name
from imgservice.domain.storable import check_storable

_TEXTS = ("id", "name", "owner", "disk_format", "container_format", "tags")


@attrs.frozen
class NewImage:
    """What a client asks for when it creates an image.

    Raise `Forbidden` for names that are not for clients to choose, `Invalid` for text that cannot
    be stored.
    """

    id: str | None = None
    name: str | None = None
    owner: str | None = None
    """None: the project of the caller."""
    ownerless: bool = False
    """Whether the image has no owner, and everybody sees it; `owner` does not matter then."""
    visibility: Visibility = Visibility.SHARED
    protected: bool = False
    os_hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    tags: Sequence[str] = ()
    properties: Mapping[str, str | None] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for name in self.properties:
            check_property_name(name)
        for name in _TEXTS:
            if value := getattr(self, name):
                check_storable(name, value)
        for name, text in self.properties.items():
            check_storable(name, text)
