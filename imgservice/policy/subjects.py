"""What checks can ask about: the one who asks, and the image that it is about."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from imgservice.domain.access import owns
from imgservice.domain.context import Context
from imgservice.domain.image import Image, Visibility

CREDENTIALS = (
    "user_id",
    "user_domain_id",
    "project_id",
    "project_domain_id",
    "domain_id",
    "system_scope",
    "system",
    "roles",
    "is_admin_project",
    "service_user_id",
    "service_roles",
)
"""What `NAME:...` in a check can be. Glance knows further ones, that say who the service is."""


def credentials(context: Context) -> dict[str, Any]:
    """Return what is known of the asker.

    What nobody knows is not there: else one who asks for no project would be of the same project as
    an image that belongs to none.
    """
    found: dict[str, Any] = {
        "user_id": context.user,
        "user_domain_id": context.user_domain,
        "project_id": context.project,
        "project_domain_id": context.project_domain,
        "domain_id": context.domain,
        "system_scope": context.system_scope,
        "system": context.system_scope,
        "service_user_id": context.service_user,
    }
    known = {name: value for name, value in found.items() if value not in (None, "None")}
    known["roles"] = list(context.roles)
    known["service_roles"] = list(context.service_roles)
    known["is_admin_project"] = True
    return known


def caller(context: Context) -> Mapping[str, Any]:
    """Return the target of the question who is an administrator: the asker himself."""
    known = credentials(context)
    names = (("user", "user_id"), ("tenant", "project_id"), ("project", "project_id"))
    return {**known, **{old: known[new] for old, new in names if new in known}}


def described(image: Image) -> Mapping[str, Any]:
    """Return the target for an image that is still to be created."""
    return {"project_id": image.owner, "owner": image.owner, "visibility": image.visibility}


_FIELDS: Mapping[str, Callable[[Image], Any]] = {
    "id": lambda image: image.id,
    "image_id": lambda image: image.id,
    "project_id": lambda image: image.owner,
    "owner": lambda image: image.owner,
    "name": lambda image: image.name,
    "status": lambda image: image.status,
    "visibility": lambda image: image.visibility,
    "protected": lambda image: image.protected,
    "os_hidden": lambda image: image.os_hidden,
    "created_at": lambda image: image.created_at,
    "updated_at": lambda image: image.updated_at,
    "min_disk": lambda image: image.min_disk,
    "min_ram": lambda image: image.min_ram,
    "disk_format": lambda image: image.disk_format,
    "container_format": lambda image: image.container_format,
    "size": lambda image: image.size,
    "virtual_size": lambda image: image.virtual_size,
    "checksum": lambda image: image.checksum,
    "os_hash_algo": lambda image: image.os_hash_algo,
    "os_hash_value": lambda image: image.os_hash_value,
    "tags": lambda image: set(image.tags),
}


class ImageTarget(Mapping[str, Any]):
    """An image that exists, by the names that checks use; custom properties have their own."""

    def __init__(self, context: Context, image: Image) -> None:
        self._context = context
        self._image = image

    def __getitem__(self, name: str) -> Any:
        if name in _FIELDS:
            return _FIELDS[name](self._image)
        if name in ("member_id", "member"):
            return self._member()
        return self._image.properties[name]

    def _member(self) -> str | None:
        """Return the asker's project where it sees the image because this is shared with it."""
        shared = self._image.visibility is Visibility.SHARED
        return None if not shared or owns(self._context, self._image) else self._context.project

    def __iter__(self) -> Iterator[str]:
        yield from _FIELDS
        yield from ("member_id", "member")
        yield from self._image.properties

    def __len__(self) -> int:
        return len(_FIELDS) + 2 + len(self._image.properties)
