"""Stores the data of one image: as one object, or in segments with a manifest."""

from collections.abc import Callable, Mapping
from functools import partial

import attrs
import orjson

from imgservice.concurrency.reactor import Clock
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.concurrency.threads import Threads
from imgservice.net.answers import Fetched
from imgservice.net.bodies import Body
from imgservice.net.errors import FetchFailed
from imgservice.store.interface import DataExists, StoreError
from imgservice.store.swift.client import Attempts, Place, SwiftClient
from imgservice.store.swift.config import LARGEST_OBJECT, SwiftConfig
from imgservice.store.swift.containers import Containers
from imgservice.store.swift.errors import Failures, is_passing
from imgservice.store.swift.feed import Feed, Part
from imgservice.store.swift.removing import Removal, segment_name

MOST_SEGMENTS = 99_999
"""Their names have five digits, and their order is that of the names."""
STATIC_AT_ONCE = 1000
"""Segments that one static large object may have, unless the operator of Swift has changed that."""
_GROWTH = 100
"""Of a static large object, the segments after which they are twice as large."""
_NEW = {"if-none-match": "*"}
_UNPROCESSABLE = 422


@attrs.frozen
class Segment:
    """One that was stored."""

    name: str
    size: int
    md5: str


class Addition:
    """The object of an image while it is written; knows what there is to be removed again."""

    def __init__(
        self,
        clock: Clock,
        threads: Threads,
        client: SwiftClient,
        containers: Containers,
        failures: Failures,
        config: SwiftConfig,
        place: Place,
        memory: Callable[[], int],
    ) -> None:
        """`memory` tells how many bytes may be kept, so as to send them again."""
        self._clock = clock
        self._threads = threads
        self._client = client
        self._containers = containers
        self._failures = failures
        self._config = config
        self._place = place
        self._memory = memory
        self._removal = Removal(client, failures)
        self._begun: list[Place] = []
        """What may be in Swift by now, the latest last."""
        self._publishing: SingleFlight[None, None] = SingleFlight()

    async def run(self, feed: Feed, size: int | None) -> int:
        """Store all data, and return how much it was."""
        if size is not None and size < self._config.segment_from:
            return await self._add_whole(feed)
        if self._config.large_objects == "dlo":
            await self._removal.delete_segments(self._place)  # a dead process may have left some
        segments = await self._add_segments(feed, size)
        await self._add_manifest(segments)
        return sum(one.size for one in segments)

    async def undo(self) -> None:
        """Remove whatever was stored; the last first, which hides the rest.

        Swift may begin a request for a manifest later than one for its removal, if it has both. A
        part is different: when Swift asks for its data, it has decided what is newer.
        """
        if None in self._publishing:
            await self._published()
        while self._begun:
            await self._removal.delete_quietly(self._begun[-1])
            self._begun.pop()

    async def _published(self) -> None:
        """Wait until the request for the manifest has come to its end."""
        try:
            await self._publishing.share(None, self._nothing)
        except DataExists:
            self._begun.pop()
        except StoreError:
            pass

    async def _nothing(self) -> None:
        """Do nothing, since the work that this would replace is running."""

    # -- the data ---------------------------------------------------------------------------------

    async def _add_whole(self, feed: Feed) -> int:
        part = Part(self._threads, feed, None, self._memory())
        try:
            await self._send(self._place, part, _NEW)
        except DataExists:
            self._begun.clear()
            raise
        return part.size

    async def _add_segments(self, feed: Feed, size: int | None) -> list[Segment]:
        segments: list[Segment] = []
        while not await feed.is_over():
            if len(segments) == self._most_segments:
                raise self._failures.too_many_segments()
            name = segment_name(self._place.name, len(segments) + 1)
            most = self._segment_size(size, len(segments))
            part = Part(self._threads, feed, most, self._memory())
            md5 = await self._send(Place(self._place.container, name), part, {})
            segments.append(Segment(name, part.size, md5))
        return segments

    @property
    def _most_segments(self) -> int:
        return MOST_SEGMENTS if self._config.large_objects == "dlo" else STATIC_AT_ONCE

    def _segment_size(self, size: int | None, before: int) -> int:
        """Return how large the next segment is; of a static object they must be few enough."""
        usual = self._config.segment_size
        if self._config.large_objects == "dlo":
            return usual
        if size is not None:
            return min(LARGEST_OBJECT, max(usual, -(-size // STATIC_AT_ONCE)))
        return min(max(usual, LARGEST_OBJECT), usual << before // _GROWTH)

    async def _send(self, place: Place, part: Part, headers: Mapping[str, str]) -> str:
        """Store an object, with several attempts as long as its data is at hand; return its MD5."""
        self._begun.append(place)
        attempts = Attempts(self._clock, self._config.timeout)
        problem = await self._attempt(place, part, headers, False)
        while problem is not None:
            if not part.can_be_repeated or not await attempts.another():
                raise self._failures.unavailable(problem)
            problem = await self._attempt(place, part, headers, True)
        return await part.md5()

    async def _attempt(
        self, place: Place, part: Part, headers: Mapping[str, str], is_repeated: bool
    ) -> str | None:
        """Send the data; return what went wrong, if it may go well next time."""
        body = Body(None, part.blocks, is_asked_for=True)
        try:
            answer = await self._client.put(place, headers, body)
        except FetchFailed as error:
            return f"Swift {error.reason}"
        if answer.status == 201:
            is_right = answer.headers.get("etag", "").strip('"') == await part.md5()
            return None if is_right else "Swift has stored other bytes than it was sent"
        if answer.status == 404:
            raise self._containers.missing(place.container)
        if is_passing(answer) or answer.status == _UNPROCESSABLE:
            return f"Swift answers PUT {place} with status {answer.status}"
        if is_repeated and answer.status == 412 and await self._has(place, await part.md5()):
            return None  # the answer to the attempt before was lost
        raise self._failures.of(answer, f"PUT {place}")

    async def _has(self, place: Place, etag: str) -> bool:
        answer, _ = await self._client.told("HEAD", place, allowed=[404])
        return answer.headers.get("etag", "").strip('"') == etag

    # -- the manifest -----------------------------------------------------------------------------

    async def _add_manifest(self, segments: list[Segment]) -> None:
        self._begun.append(self._place)
        try:
            await self._publishing.share(None, partial(self._put_manifest, segments))
        except DataExists:
            self._begun.pop()
            raise

    async def _put_manifest(self, segments: list[Segment]) -> None:
        place, headers, body = self._place, dict(_NEW), b""
        if self._config.large_objects == "dlo":
            headers["x-object-manifest"] = f"{place.container}/{place.name}-"
        elif segments:
            body = orjson.dumps([_listed(place.container, one) for one in segments])
            place = attrs.evolve(place, query="multipart-manifest=put")
        attempts = 0

        async def send() -> Fetched:
            nonlocal attempts
            attempts += 1
            return await self._client.put(place, headers, body)

        answer = await self._client.repeated(send)
        if answer.status // 100 == 2 or (answer.status == 412 and attempts > 1):
            return
        raise self._failures.of(answer, f"PUT {place}")


def _listed(container: str, segment: Segment) -> Mapping[str, object]:
    return {
        "path": f"/{container}/{segment.name}",
        "etag": segment.md5,
        "size_bytes": segment.size,
    }
