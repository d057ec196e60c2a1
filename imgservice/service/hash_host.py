"""Tell other nodes where the data of an image is being hashed."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import attrs

from imgservice.domain.errors import NotFound, Unavailable
from imgservice.domain.image import Image
from imgservice.domain.job import Job
from imgservice.domain.names import HASH_HOST
from imgservice.service.ports import ImageRepository


class HashHost:
    """A property of the image with the URL of the node that reads its data.

    Nodes of Glance send a request to delete the image there, since only there can the reading be
    stopped. Without the property everything ends well, too, but later.
    """

    def __init__(self, images: ImageRepository, node: str | None) -> None:
        """`node` is the URL of this node, None when others cannot reach it."""
        self._images = images
        self._node = node

    @asynccontextmanager
    async def recorded(self, image_id: str) -> AsyncIterator[None]:
        """Record this node, if it has a URL, while the block runs."""
        if (node := self._node) is None:
            yield
            return
        try:
            await self._change(image_id, lambda image: _noting(image, node))
            yield
        finally:
            await self._clear(image_id, node)

    @property
    def payload(self) -> Mapping[str, object]:
        """What a job must know, for whoever cleans up after it."""
        return {} if self._node is None else {"node": self._node}

    async def clear_for(self, job: Job) -> None:
        """Remove the property that the job has recorded; any, if it tells no node."""
        await self._clear(job.image_id, job.payload.get("node"))

    async def _clear(self, image_id: str, node: object) -> None:
        await self._change(image_id, lambda image: _cleared(image, node))

    async def _change(self, image_id: str, change: Callable[[Image], Image]) -> None:
        with suppress(NotFound, Unavailable):
            await self._images.update(image_id, change)


def _noting(image: Image, node: str) -> Image:
    if image.properties.get(HASH_HOST) == node:
        return image
    return attrs.evolve(image, properties={**image.properties, HASH_HOST: node})


def _cleared(image: Image, node: object) -> Image:
    noted = image.properties.get(HASH_HOST)
    if noted is None or node not in (None, noted):
        return image
    rest = {name: value for name, value in image.properties.items() if name != HASH_HOST}
    return attrs.evolve(image, properties=rest)
