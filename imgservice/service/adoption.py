"""Make images active with data that clients have put elsewhere."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable

import attrs

from imgservice.domain.errors import Invalid, UnsupportedContent
from imgservice.domain.image import Content, Image, Location
from imgservice.domain.job import LOCATION
from imgservice.domain.locations import Checksums
from imgservice.service.hash_host import HashHost
from imgservice.service.intake import Intake, Intakes, Upload
from imgservice.service.ports import DataStore
from imgservice.service.process_jobs import ProcessJobs
from imgservice.service.upload_jobs import UploadJobs

Guard = Callable[[AsyncGenerator[bytes, None]], AsyncIterator[bytes]]
"""Passes a stream on as long as its client waits for it, and raises after that."""


@attrs.frozen
class Found:
    """Data that somebody else has put at a location."""

    location: Location
    store: DataStore
    size: int


class AdoptionService:
    """Reads data where it lies, to inspect and to hash it; the data itself is never touched."""

    def __init__(
        self, jobs: ProcessJobs, uploads: UploadJobs, intakes: Intakes, hash_host: HashHost
    ) -> None:
        self._jobs = jobs
        self._uploads = uploads
        self._intakes = intakes
        self._hash_host = hash_host

    async def adopt(self, image: Image, found: Found, expected: Checksums, guard: Guard) -> Content:
        """Read the data, and make the image active with it; on any failure it is queued as before.

        `guard` gets the stream, and may end it.
        """
        location, store, size = found.location, found.store, found.size
        job = self._jobs.new(LOCATION, image.id, location.store, self._hash_host.payload)
        async with self._uploads.begin(image, job, size) as upload:
            # One byte more shows that there is more, without reading however much that is.
            source = Upload(lambda _: guard(store.read(location.url, 0, size + 1)), size)
            intake = await self._intakes.of_location(upload, source, expected.os_hash_algo)
            return await self._read(intake, location, expected)

    async def _read(self, intake: Intake, location: Location, expected: Checksums) -> Content:
        try:
            async with self._hash_host.recorded(intake.job.image_id):
                async for _ in intake.blocks():
                    pass  # the intake looks at it; nobody here wants the bytes
            content = intake.content(location)
            expected.compare(content)
            await self._uploads.finish(intake, content)
        except UnsupportedContent as error:
            await self._uploads.give_up(intake)
            raise Invalid(f"The data at the location is refused: {error.message}") from None
        except BaseException:
            await self._uploads.give_up(intake)
            raise
        return content
