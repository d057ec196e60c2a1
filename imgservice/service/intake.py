"""Inspect, hash and limit the data of an image while it is on its way."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from imgservice.domain.errors import ImageGone, ImageTooLarge, Invalid
from imgservice.domain.format_rules import FormatRules
from imgservice.domain.image import Content, Image, Location
from imgservice.domain.job import Job
from imgservice.service.ports import StreamDigests
from imgservice.service.process_jobs import JobRun
from imgservice.service.quota import Allowance

if TYPE_CHECKING:
    from imgservice.domain.formats import FormatCheck

SMALLEST_WINDOW = 64 << 10
"""Bytes that each upload may have in memory, however many there are."""

Window = Callable[[], int]
"""Tells how many bytes of a stream may wait in memory at present."""
MakeDigests = Callable[[Window, str | None], StreamDigests]
"""Makes what hashes a stream by an algorithm, None for the configured one."""
MakeFormatCheck = Callable[[str, str, FormatRules], Awaitable["FormatCheck"]]
"""Makes what checks data of a disk format in a container format."""


@attrs.frozen
class Upload:
    """Data that a client offers."""

    open: Callable[[Window], AsyncIterator[bytes]]
    """Starts the stream."""
    size: int | None = None
    """How much the client says it is, None when it does not."""
    store: str | None = None
    """The id of the store that the client wants."""


@attrs.frozen
class UploadRules:
    """What the operator allows, and how much memory uploads may take."""

    image_size: int
    formats: FormatRules
    window: int
    memory: int


@attrs.frozen
class UploadRun:
    """An upload under way: the image that gets the data, its job, and its share of the quota."""

    image: Image
    run: JobRun
    allowance: Allowance

    @property
    def job(self) -> Job:
        return self.run.job


class Intake:
    """The stream of one upload on its way to the store, with all that is learned from it.

    What is wrong with the data is raised inside the stream, before its end: so a store never
    completes an object that would have to be taken away again.
    """

    def __init__(
        self,
        upload: UploadRun,
        source: Upload,
        limit: int,
        check: "FormatCheck",
        digests: StreamDigests,
        window: Window,
    ) -> None:
        """`limit` is how many bytes an image may have."""
        self._upload = upload
        self._source = source
        self._limit = limit
        self._digests = digests
        self._window = window
        self._format = check
        self._size = 0
        self._checksums = ("", "")
        self._virtual_size: int | None = None

    @property
    def job(self) -> Job:
        return self._upload.job

    @property
    def expected_size(self) -> int | None:
        return self._source.size

    @property
    def remark(self) -> str | None:
        """What the operator should know of the data, once all of it has come."""
        if self._format.detected is None:
            return None
        image = self._upload.image
        return (
            f"Image {image.id}: its disk_format is {image.disk_format}, but its data is"
            f" {self._format.detected}"
        )

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in self._source.open(self._window):
            self._size += len(block)
            self._check()
            await self._upload.allowance.cover(self._size)
            self._format.feed(block)
            await self._digests.update(block)
            yield block
        await self._end()

    def _check(self) -> None:
        if self._upload.run.is_cancelled:
            raise ImageGone(self._upload.image.id)
        if self._size > self._limit:
            raise ImageTooLarge(self._limit)

    async def _end(self) -> None:
        expected = self.expected_size
        if expected is not None and expected != self._size:
            word = "exceeds" if self._size > expected else "mismatch"
            raise Invalid(f"Size {word}: expected {expected} bytes, got {self._size} bytes")
        self._virtual_size = self._format.finish()
        self._checksums = await self._digests.finish()

    def content(self, location: Location) -> Content:
        checksum, hash_value = self._checksums
        return Content(
            size=self._size,
            virtual_size=self._virtual_size or None,
            checksum=checksum,
            os_hash_algo=self._digests.algorithm,
            os_hash_value=hash_value,
            location=location,
            detected_format=self._format.detected,
        )

    async def abandon(self) -> None:
        self._format.close()
        await self._digests.abandon()


class Intakes:
    """Makes intakes, and shares the memory among those that run."""

    def __init__(
        self, rules: UploadRules, format_check: MakeFormatCheck, digests: MakeDigests
    ) -> None:
        self._rules = rules
        self._format_check = format_check
        self._digests = digests
        self._running = 0

    def check_size(self, size: int) -> None:
        """Raise `ImageTooLarge` when no image may have so many bytes."""
        if size > self._rules.image_size:
            raise ImageTooLarge(self._rules.image_size)

    @contextmanager
    def share(self) -> Iterator[None]:
        """Count one more upload while the block runs."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def of_upload(self, upload: UploadRun, source: Upload) -> Intake:
        """Return the intake of data that a client sends."""
        return await self._make(upload, source, self._rules.formats, None)

    async def of_location(self, upload: UploadRun, source: Upload, algorithm: str | None) -> Intake:
        """Return the intake of data that lies elsewhere, whose format may be any."""
        formats = attrs.evolve(self._rules.formats, accept_others=True)
        return await self._make(upload, source, formats, algorithm)

    async def _make(
        self, upload: UploadRun, source: Upload, formats: FormatRules, algorithm: str | None
    ) -> Intake:
        image = upload.image
        assert image.disk_format is not None and image.container_format is not None  # noqa: S101
        check = await self._format_check(image.disk_format, image.container_format, formats)
        digests = self._digests(self._window, algorithm)
        return Intake(upload, source, self._rules.image_size, check, digests, self._window)

    def _window(self) -> int:
        """Return how many bytes may wait before the format check, and as many behind it.

        The memory is shared by the uploads that run. A third of each share is left for the blocks
        between the two.
        """
        share = self._rules.memory // max(1, self._running)
        return max(SMALLEST_WINDOW, min(self._rules.window, share * 2 // 3)) // 2
