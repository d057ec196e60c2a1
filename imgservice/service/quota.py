"""Quotas: what projects use, and what they may use."""

from collections.abc import Mapping

from imgservice.domain.context import Context
from imgservice.domain.job import Job
from imgservice.domain.quota import Quota, Resource, Usage, shown
from imgservice.service.ports import LimitSource, QuotaRepository, UploadRepository


class ConfiguredLimits:
    """The limits in the configuration file."""

    def __init__(self, default: Usage, overrides: Mapping[str, Usage]) -> None:
        self._default = default
        self._overrides = overrides

    async def of(self, project: str) -> Quota:
        return Quota(project, self._overrides.get(project, self._default))


class StorageLimit:
    """A limit on storage that is the same for all projects."""

    def __init__(self, most: int) -> None:
        self._most = {Resource.SIZE_TOTAL: most}

    async def of(self, project: str) -> Quota:
        return Quota(project, self._most, storage_only=True)


FIRST_STEP = 16 << 20
"""Bytes that an upload of unknown size first reserves in advance; later as many as it has."""
LARGEST_STEP = 1 << 30


class QuotaService:
    """Knows usage and limits. Without a `source` nothing is limited, and nothing is looked up."""

    def __init__(self, images: QuotaRepository, source: LimitSource | None) -> None:
        self._images = images
        self._source = source

    async def of(self, project: str | None) -> Quota | None:
        """Return the limits of the project; None if it has none."""
        if self._source is None or project is None:
            return None
        return await self._source.of(project)

    async def usage(self, context: Context) -> Mapping[str, Mapping[str, int]]:
        """Return usage and limit of each resource, in the units that clients see; -1 is no limit.

        Return nothing if projects have no limits, or only `user_storage_quota`.
        """
        quota = await self.of(context.project)
        if quota is None or quota.storage_only:
            return {}
        used = await self._images.usage(quota.project, tuple(Resource))
        return {
            resource.value: {
                "usage": shown(resource, used[resource]),
                "limit": shown(resource, quota.most[resource]) if resource in quota.most else -1,
            }
            for resource in Resource
        }


class Allowance:
    """The bytes that an upload has reserved; it reserves more as they arrive."""

    def __init__(self, uploads: UploadRepository, job: Job, quota: Quota | None) -> None:
        self._uploads = uploads
        self._job = job
        self._quota = quota if job.reserved is not None else None
        self._reserved = job.reserved or 0

    async def cover(self, size: int) -> None:
        """Reserve bytes for this size of the upload; `TooLarge` if the quota does not allow it."""
        if self._quota is not None and size > self._reserved:
            step = max(FIRST_STEP, min(self._reserved, LARGEST_STEP))
            self._reserved = await self._uploads.reserve(self._job, self._quota, size, step)


def reservation(quota: Quota | None, size: int | None) -> int | None:
    """Return how many bytes an upload first reserves; None if bytes are not limited.

    An upload of unknown size needs room for at least one byte.
    """
    if quota is None or Resource.SIZE_TOTAL not in quota.most:
        return None
    return 1 if size is None else size
