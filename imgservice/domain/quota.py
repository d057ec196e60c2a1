"""Quotas of projects, with the resources that Keystone limits for Glance."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import attrs

from imgservice.domain.errors import TooLarge

MEBI = 1 << 20
SMALLEST_STEP = MEBI
"""Bytes that an upload of unknown size may always reserve in advance, if they are left."""
PART_OF_REST = 16
"""Beyond that, it may reserve this fraction of what is left."""


class Resource(StrEnum):
    """What is limited. Sizes are bytes here, and whole mebibytes in Keystone and for clients."""

    SIZE_TOTAL = "image_size_total"
    """The data of all images, counting every copy."""
    STAGE_TOTAL = "image_stage_total"
    """Staged data, and data that is being copied."""
    COUNT_TOTAL = "image_count_total"
    COUNT_UPLOADING = "image_count_uploading"
    """Images whose data is being uploaded."""


SIZES = frozenset({Resource.SIZE_TOTAL, Resource.STAGE_TOTAL})
Usage = Mapping[Resource, int]


@attrs.frozen
class Quota:
    """The limits of one project. Resources that are not in `most` are not limited."""

    project: str
    most: Mapping[Resource, int]
    storage_only: bool = False
    """Whether this is `user_storage_quota`, the same for all projects, with its own messages."""

    def limited(self, resources: Iterable[Resource]) -> Sequence[Resource]:
        """Return those of the resources that are limited."""
        return [resource for resource in resources if resource in self.most]

    def check(self, used: Usage, more: Usage) -> None:
        """Raise `TooLarge` when any resource would exceed its limit."""
        over = {
            resource: more[resource]
            for resource in self.limited(more)
            if used[resource] + more[resource] > self.most[resource]
        }
        if over:
            raise TooLarge(self._refusal(used, over))

    def grant(self, used: int, needed: int, step: int) -> int:
        """Return how many bytes an upload may reserve while `used` are used or reserved by others.

        These are the `needed` ones, and up to `step` in advance: fewer when few are left, because
        bytes that one upload reserves in advance are missing for others.
        """
        self.check({Resource.SIZE_TOTAL: used}, {Resource.SIZE_TOTAL: needed})
        left = self.most[Resource.SIZE_TOTAL] - used - needed
        return needed + min(step, left, max(SMALLEST_STEP, left // PART_OF_REST))

    def _refusal(self, used: Usage, over: Usage) -> str:
        if self.storage_only:
            left = max(0, self.most[Resource.SIZE_TOTAL] - used[Resource.SIZE_TOTAL])
            return (
                "Image exceeds the storage quota: The size of the data"
                f" {over[Resource.SIZE_TOTAL]} bytes will exceed the limit. {left} bytes remaining."
            )
        # Rounded up: 9.5 MiB used and 0.9 MiB needed would look like 9 and 0 of 10.
        told = ", ".join(
            f"Resource {resource} is over limit of"
            f" {shown(resource, self.most[resource])}{_unit(resource)} due to"
            f" current usage {_filled(resource, used[resource])}{_unit(resource)} and delta"
            f" {_filled(resource, amount)}{_unit(resource)}"
            for resource, amount in over.items()
        )
        return f"Project {self.project} is over a limit for [{told}]"


def shown(resource: Resource, amount: int) -> int:
    """Return the amount in the unit that clients see."""
    return amount // MEBI if resource in SIZES else amount


def _unit(resource: Resource) -> str:
    return " MiB" if resource in SIZES else ""


def _filled(resource: Resource, amount: int) -> int:
    return -shown(resource, -amount)
