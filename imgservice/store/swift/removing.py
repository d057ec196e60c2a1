"""Removes objects, with the segments of which they consist."""

import re
from collections.abc import AsyncIterator
from urllib.parse import unquote, urlencode

import orjson

from imgservice.store.swift.client import Place, SwiftClient
from imgservice.store.swift.errors import Failures

PAGE = 1000
"""Names that are listed at a time."""
_SEGMENT = re.compile(r"-\d{5}")


def segment_name(name: str, number: int) -> str:
    return f"{name}-{number:05}"


def is_segment_of(segment: str, name: str) -> bool:
    return segment.startswith(name) and _SEGMENT.fullmatch(segment, len(name)) is not None


class Removal:
    """Removes objects of one account."""

    def __init__(self, client: SwiftClient, failures: Failures, page: int = PAGE) -> None:
        self._client = client
        self._page_size = page
        self._failures = failures

    async def delete(self, place: Place) -> None:
        """Remove an object and its segments, these first: what fails can be repeated."""
        answer, _ = await self._client.told("HEAD", place)
        if answer.headers.get("x-static-large-object", "").lower() == "true":
            await self._delete_static(place)
            return
        manifest = answer.headers.get("x-object-manifest")
        if manifest is not None:
            await self._delete_dynamic(place, manifest)
        await self._client.told("DELETE", place)

    async def discard(self, place: Place) -> None:
        """Remove whatever there is of an object, complete or not."""
        await self.delete_segments(place)
        await self.delete_quietly(place)

    async def delete_segments(self, place: Place) -> None:
        """Remove the segments that an object of this name has, or would have."""
        await self._delete_all(place.container, f"{place.name}-", place.name)

    async def delete_quietly(self, place: Place) -> None:
        await self._client.told("DELETE", place, allowed=[404])

    async def _delete_static(self, place: Place) -> None:
        """Let Swift remove the segments; it answers 200 even if it could not."""
        whole = Place(place.container, place.name, "multipart-manifest=delete")
        accept = {"accept": "application/json"}
        _, body = await self._client.told("DELETE", whole, accept)
        try:
            errors = orjson.loads(body).get("Errors")
        except (orjson.JSONDecodeError, AttributeError):
            errors = True
        if errors:
            raise self._failures.unavailable("Swift could not remove all segments of an object")

    async def _delete_dynamic(self, place: Place, manifest: str) -> None:
        """Remove the segments, if they are this object's alone, as far as their names tell."""
        container, _, prefix = unquote(manifest).partition("/")
        if prefix == f"{place.name}-":
            await self._delete_all(container, prefix, place.name)
        elif prefix.startswith((f"{place.name}-", f"{place.name}/")):
            await self._delete_all(container, prefix, None)

    async def _delete_all(self, container: str, prefix: str, name: str | None) -> None:
        async for listed in self.names(container, prefix):
            if name is None or is_segment_of(listed, name):
                await self.delete_quietly(Place(container, listed))

    async def names(self, container: str, prefix: str) -> AsyncIterator[str]:
        """Yield the names that begin so, in order; none if there is no such container."""
        marker = ""
        while names := await self._page(container, prefix, marker):
            for name in names:
                yield name
            marker = names[-1]

    async def _page(self, container: str, prefix: str, marker: str) -> list[str]:
        query = urlencode(
            {"format": "json", "prefix": prefix, "marker": marker, "limit": str(self._page_size)}
        )
        answer, body = await self._client.told("GET", Place(container, query=query), allowed=[404])
        if answer.status in (204, 404):
            return []
        try:
            return [str(one["name"]) for one in orjson.loads(body) if "name" in one]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            raise self._failures.unavailable("Swift gives a list that is none") from None
