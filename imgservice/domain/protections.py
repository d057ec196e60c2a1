"""Property protections: who may create, read, update and delete which custom properties."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Literal, Protocol, get_args

import attrs

from imgservice.domain import patch
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden
from imgservice.domain.image import Image
from imgservice.domain.names import IMAGE_FIELDS, RESERVED_PREFIX
from imgservice.domain.patch import Operation
from imgservice.domain.patterns import Pattern
from imgservice.domain.storable import LONGEST_NAME

Deed = Literal["create", "read", "update", "delete"]
DEEDS: Sequence[Deed] = get_args(Deed)
Permission = Callable[[Context], bool]
_KNOWN_NAMES = 4096
"""The number of property names whose section is cached."""


def everybody(context: Context) -> bool:
    return True


def nobody(context: Context) -> bool:
    return False


def having_one_of(roles: Iterable[str]) -> Permission:
    """Return the permission for callers with one of the roles, or whose service has it."""
    wanted = frozenset(role.lower() for role in roles)
    return lambda context: not wanted.isdisjoint(_roles(context))


def as_ruled(allow: Callable[[Context], bool]) -> Permission:
    """Return the permission of a policy rule, for the same roles as `having_one_of`."""

    def permission(context: Context) -> bool:
        roles = _roles(context)
        return allow(context if roles is context.roles else attrs.evolve(context, roles=roles))

    return permission


def _roles(context: Context) -> Set[str]:
    """Return the roles of the caller and its service; an anonymous caller has none here."""
    if context.read_only:
        return frozenset()
    return context.roles | context.service_roles if context.service_roles else context.roles


@attrs.frozen
class Section:
    """The permissions for all properties whose names match the pattern."""

    pattern: Pattern
    permissions: Mapping[Deed, Permission]


OWN_NOTES = Section(re.compile(f"^{re.escape(RESERVED_PREFIX)}"), dict.fromkeys(DEEDS, everybody))
"""The service's own properties, which the operator's sections do not cover."""


class PropertyRules(Protocol):
    def may(self, context: Context, deed: Deed, name: str) -> bool:
        """Tell whether the caller may do this with custom properties of this name."""

    def readable(
        self, context: Context, properties: Mapping[str, str | None]
    ) -> Mapping[str, str | None]:
        """Return the properties that the caller may read."""

    def check_new(self, context: Context, properties: Mapping[str, str | None]) -> None:
        """Raise `Forbidden` when the caller may not create one of them."""

    def apply(self, context: Context, image: Image, operation: Operation) -> Image:
        """Do as `patch.apply`, or raise `Forbidden`. Unreadable properties do not change."""


class Unprotected:
    """Everybody may do everything."""

    def may(self, context: Context, deed: Deed, name: str) -> bool:
        return True

    def readable(
        self, context: Context, properties: Mapping[str, str | None]
    ) -> Mapping[str, str | None]:
        return properties

    def check_new(self, context: Context, properties: Mapping[str, str | None]) -> None:
        pass

    def apply(self, context: Context, image: Image, operation: Operation) -> Image:
        return patch.apply(image, operation)


UNPROTECTED = Unprotected()


class Protected:
    """The first section that matches a name decides; without one, everything is denied."""

    def __init__(self, sections: Sequence[Section]) -> None:
        ordered = (OWN_NOTES, *sections)

        @lru_cache(_KNOWN_NAMES)
        def permissions(name: str) -> Mapping[Deed, Permission]:
            return next((one.permissions for one in ordered if one.pattern.search(name)), {})

        self._permissions = permissions

    def may(self, context: Context, deed: Deed, name: str) -> bool:
        if len(name) > LONGEST_NAME:
            return False  # no image has such a property
        return self._permissions(name).get(deed, nobody)(context)

    def readable(
        self, context: Context, properties: Mapping[str, str | None]
    ) -> Mapping[str, str | None]:
        return {
            name: value for name, value in properties.items() if self.may(context, "read", name)
        }

    def check_new(self, context: Context, properties: Mapping[str, str | None]) -> None:
        for name in properties:
            self._require(context, ("create",), name)

    def apply(self, context: Context, image: Image, operation: Operation) -> Image:
        if operation.name in IMAGE_FIELDS:
            return patch.apply(image, operation)
        is_there = operation.name in image.properties
        is_seen = is_there and self.may(context, "read", operation.name)
        # A property that the caller cannot read does not exist for them.
        patch.check_property(operation, is_seen)
        self._require(context, _needed(operation, is_there, is_seen), operation.name)
        return patch.change_property(image, operation)

    def _require(self, context: Context, deeds: Sequence[Deed], name: str) -> None:
        if not all(self.may(context, deed, name) for deed in deeds):
            raise Forbidden(f"Attribute '{name}' is reserved.")


def _needed(operation: Operation, is_there: bool, is_seen: bool) -> Sequence[Deed]:
    """Return the permissions that an operation on a custom property needs.

    Adding a property that exists, but that the caller cannot read, needs those for both creating
    and updating.
    """
    if operation.verb == "remove":
        return ("delete",)
    if is_seen:
        return ("update",)
    return ("create", "update") if is_there else ("create",)
