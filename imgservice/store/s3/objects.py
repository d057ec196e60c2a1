"""Requests for single objects of a bucket, and for unfinished uploads to it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from secrets import token_hex
from weakref import WeakValueDictionary

import attrs
from twisted.internet.defer import DeferredLock

from imgservice.net.errors import FetchFailed
from imgservice.store.interface import DataExists
from imgservice.store.s3.documents import (
    SentPart,
    completion,
    is_error,
    read_document,
    read_uploads,
)
from imgservice.store.s3.errors import Answered
from imgservice.store.s3.payloads import Payload, Streamed
from imgservice.store.s3.requests import CRC32, Bucket, Reply

MARK = "x-amz-meta-imgservice-upload"
"""The header of objects by which a process recognises what it wrote, if it got no answer."""
_ABORTS = 3


@attrs.frozen
class Written:
    """An object that is to be written: its key, and the mark that only it has."""

    key: str
    mark: str = attrs.field(factory=lambda: token_hex(16))


class Objects:
    """Knows which requests the protocol has, and what their answers mean."""

    def __init__(self, name: str, bucket: Bucket) -> None:
        self._name = name
        self._bucket = bucket
        self._is_conditional = True
        self._locks: WeakValueDictionary[str, DeferredLock] = WeakValueDictionary()

    # -- objects ----------------------------------------------------------------------------------

    async def head(self, key: str) -> Mapping[str, str] | None:
        """Return the headers of an object, None if there is none."""
        try:
            return (await self._bucket.ask("HEAD", key)).headers
        except Answered as error:
            if error.status == 404:
                return None
            raise

    async def remove(self, key: str) -> None:
        """Remove an object, if there is one."""
        try:
            await self._bucket.ask("DELETE", key)
        except Answered as error:
            if error.status != 404:
                raise

    async def refuse_second(self, key: str) -> None:
        if await self.head(key) is not None:
            raise self._exists()

    async def put(self, written: Written, payload: Payload | Streamed) -> None:
        """Write an object by one request; `DataExists` if there is one."""
        async with self._alone(written.key):
            await self._publish("PUT", written, {}, {MARK: written.mark}, payload)

    async def is_ours(self, written: Written) -> bool:
        found = await self.head(written.key)
        return found is not None and found.get(MARK) == written.mark

    # -- uploads in parts -------------------------------------------------------------------------

    async def begin(self, written: Written, has_checksums: bool) -> str:
        """Return the id of a new upload."""
        headers = {MARK: written.mark}
        if has_checksums:
            headers["x-amz-checksum-algorithm"] = "CRC32"
        reply = await self._bucket.ask("POST", written.key, {"uploads": ""}, headers)
        upload_id = read_document(reply.text).get("UploadId", "")
        if not upload_id:
            raise FetchFailed("gives no usable answer", "no UploadId")
        return upload_id

    async def put_part(
        self, key: str, upload_id: str, number: int, payload: Payload | Streamed
    ) -> SentPart:
        place = {"partNumber": str(number), "uploadId": upload_id}
        reply = await self._bucket.ask("PUT", key, place, payload=payload)
        return _part(number, reply.headers.get("etag", ""), reply.headers.get(CRC32))

    async def copy_part(self, key: str, upload_id: str, number: int, source: str) -> SentPart:
        """Let another object be copied into a part."""
        place = {"partNumber": str(number), "uploadId": upload_id}
        headers = {"x-amz-copy-source": f"/{self._bucket.address.bucket}/{source}"}
        reply = await self._bucket.ask("PUT", key, place, headers)
        _raise_late_error(reply)
        copied = read_document(reply.text.strip())
        return _part(number, copied.get("ETag", ""), copied.get("ChecksumCRC32"))

    async def complete(self, written: Written, upload_id: str, parts: list[SentPart]) -> None:
        """Make an object of the parts; `DataExists` if there is one."""
        payload = Payload([completion(sorted(parts, key=lambda part: part.number))])
        async with self._alone(written.key):
            await self._publish("POST", written, {"uploadId": upload_id}, {}, payload)

    async def abort(self, key: str, upload_id: str) -> None:
        """End an upload, and see that no part of it is left."""
        place = {"uploadId": upload_id}
        for _ in range(_ABORTS):
            if not await self._is_there("DELETE", key, place):
                return
            if not await self._is_there("GET", key, place):
                return
        raise FetchFailed("gives no usable answer", "an upload cannot be aborted")

    async def abort_all(self, key: str) -> None:
        """End all uploads to this key."""
        parameters = {"uploads": "", "prefix": key}
        for _ in range(_ABORTS):
            uploads = read_uploads((await self._bucket.ask("GET", "", parameters)).text, key)
            if not uploads:
                return
            for upload_id in uploads:
                await self.abort(key, upload_id)

    async def _is_there(self, method: str, key: str, place: Mapping[str, str]) -> bool:
        try:
            await self._bucket.ask(method, key, place)
        except Answered as error:
            if error.status == 404:
                return False
            raise
        return True

    # -- publishing -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Let one after another publish an object of this key: not every server that knows the
        condition checks it at the moment in which the object appears."""
        lock = self._locks.setdefault(key, DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()

    async def _publish(
        self,
        method: str,
        written: Written,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
        payload: Payload | Streamed,
    ) -> None:
        """Send what makes the object appear, on condition that there is none."""
        if not self._is_conditional:
            await self.refuse_second(written.key)
        condition = {"if-none-match": "*"} if self._is_conditional else {}
        try:
            reply = await self._bucket.ask(
                method, written.key, parameters, {**headers, **condition}, payload
            )
            _raise_late_error(reply)
        except Answered as error:
            if error.status == 501 and self._is_conditional:
                self._is_conditional = False
                if payload.can_be_sent:
                    return await self._publish(method, written, parameters, headers, payload)
            await self._look_after(written, error)
        except FetchFailed as error:
            await self._look_after(written, error)

    async def _look_after(self, written: Written, error: Exception) -> None:
        """Return if the object was written nevertheless, and only the answer was lost."""
        try:
            found = await self.head(written.key)
        except (Answered, FetchFailed):
            raise error from None
        if found is not None and found.get(MARK) == written.mark:
            return
        if found is not None:
            raise self._exists() from error
        raise error

    def _exists(self) -> DataExists:
        return DataExists(f"{self._name} already has an object for this image")


def _part(number: int, etag: str, checksum: str | None) -> SentPart:
    return SentPart(number, etag, {"ChecksumCRC32": checksum} if checksum else {})


def _raise_late_error(reply: Reply) -> None:
    """Raise the error of an answer whose status had been sent before the server knew of it."""
    if reply.text and is_error(reply.text):
        raise Answered(500, read_document(reply.text.strip()).get("Code", ""))
