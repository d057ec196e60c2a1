"""Routes of an image's data: /v2/images/{id}/file."""

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial

import attrs

from imgservice.api import acceleration as accel
from imgservice.api.filenames import disposition
from imgservice.api.v2.listing import parse_query
from imgservice.domain.errors import Invalid, UnsupportedContent
from imgservice.domain.image import Image
from imgservice.http.conditional import (
    Validators,
    check_unchanged,
    is_known,
    not_modified,
    wants_part,
)
from imgservice.http.ranges import ByteRange, wanted_range
from imgservice.http.request import StreamingRequest
from imgservice.http.response import CACHE_CONTROL, PRIVATE, Response, no_content
from imgservice.http.route import NOTHING, OCTETS, Body, Documentation, Route, serves
from imgservice.http.sending import Sender
from imgservice.http.throttle import Throttle, Transfers
from imgservice.service.copies import OpenBlocks, OpenFile
from imgservice.service.intake import Upload
from imgservice.service.reading import ImageData, ReadingService
from imgservice.service.uploads import UploadService

BLOCK = 1 << 20
DIGESTS = {"sha512": "sha-512", "sha256": "sha-256"}
"""The algorithms that RFC 9530 recommends, and its names for them."""
OCTET_STREAM = "application/octet-stream"
PATH = "/images/<image_id>/file"

UPLOAD = Documentation(
    "Upload the data of an image.",
    {204: NOTHING},
    errors=(409, 410, 413, 415),
    body=OCTETS,
    headers=("X-Image-Meta-Store", "X-OpenStack-Image-Size"),
)
DOWNLOAD = Documentation(
    "Download the data of an image, or a part of it.",
    {200: OCTETS, 204: NOTHING, 206: OCTETS, 304: NOTHING},
    errors=(412, 416),
    headers=(
        "Range", "If-Range", "If-Match", "If-None-Match",
        "If-Modified-Since", "If-Unmodified-Since",
    ),
    query={"prefer": {"type": "string"}},
)  # fmt: skip


@attrs.frozen
class DataRoutes:
    """Uploads and downloads the data of images."""

    _uploads: UploadService
    _reading: ReadingService
    _sender: Sender
    _transfers: Transfers
    _acceleration: accel.Acceleration

    @serves(Route("PUT", PATH, UPLOAD, rules=("upload_image",), body=Body.DATA))
    async def upload_image(self, request: StreamingRequest, image_id: str) -> Response:
        _check_type(request)
        upload = Upload(
            open=partial(_blocks, request, self._transfers.incoming(request)),
            size=_announced_size(request),
            store=request.header("x-image-meta-store"),
        )
        with self._transfers.upload(request.context):
            await self._uploads.upload(request.context, image_id, upload)
        return no_content()

    @serves(Route("GET", PATH, DOWNLOAD, rules=("download_image", "download_from_store")))
    async def download_image(self, request: StreamingRequest, image_id: str) -> Response | None:
        found = await self._reading.find(request.context, image_id, _preferred(request))
        if not found.copies:
            return no_content()
        current = _validators(found.image)
        check_unchanged(request, current)
        if is_known(request, current):
            return not_modified(current)
        if request.method == b"HEAD":
            _set_headers(request, found, None)
            return None
        return await self._send(request, found, _wanted_part(request, current, found.size))

    async def _send(
        self, request: StreamingRequest, data: ImageData, part: ByteRange | None
    ) -> Response | None:
        throttle = self._transfers.outgoing(request)
        place = None if throttle else await self._acceleration.place(request, data)
        if place is not None:
            _set_headers(request, data, None)
            return Response(200, headers={accel.HEADER: place})
        opened = await _open(data, part, self._sender.takes_files(request))
        if opened is None:
            return no_content()  # the record says there is data, the stores say there is none
        async with aclosing(opened):
            _set_headers(request, data, part)
            try:
                await self._sender.send(request, opened, throttle)
            finally:
                self._reading.note_sent(request.context, data.image, request.sentLength)
        return None


def _blocks(
    request: StreamingRequest, throttle: Throttle | None, window: Callable[[], int]
) -> AsyncIterator[bytes]:
    if throttle is not None:
        return throttle.slowed(request.body.blocks, BLOCK, window)
    return request.body.blocks(BLOCK, window)


def _check_type(request: StreamingRequest) -> None:
    declared = request.header("content-type")
    if declared is None or declared.partition(";")[0].strip().lower() != OCTET_STREAM:
        raise UnsupportedContent(f"Invalid content type {declared}")


def _announced_size(request: StreamingRequest) -> int | None:
    """Return the size that the client announces in X-OpenStack-Image-Size, else Content-Length.

    In the former, 0 means that the client does not know the size.
    """
    text = request.header("x-openstack-image-size")
    if text is None:
        return request.body.length
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid("Invalid or missing image size in request headers.")
    return int(text) or None


def _preferred(request: StreamingRequest) -> list[str]:
    """Return the ids of stores in `?prefer=a,b`; the last `prefer` counts, as everywhere."""
    given = dict(parse_query(request.uri.partition(b"?")[2])).get("prefer", "")
    return [name.strip() for name in given.split(",") if name.strip()]


def _validators(image: Image) -> Validators:
    """Return the validators of the data, which are made of its hash.

    Data without a hash may be at a location where others change it without our knowledge.
    """
    content = image.os_hash_value or image.checksum
    return Validators(f'"{content}"', image.updated_at) if content else Validators()


def _wanted_part(request: StreamingRequest, current: Validators, size: int) -> ByteRange | None:
    if not wants_part(request, current):
        return None
    return wanted_range(request.header("range"), request.header("content-range"), size)


async def _open(
    data: ImageData, part: ByteRange | None, as_file: bool
) -> OpenFile | OpenBlocks | None:
    start, length = (part.start, part.length) if part else (0, data.size)
    return await (data.open_file if as_file else data.open)(start, length)


def _set_headers(request: StreamingRequest, data: ImageData, part: ByteRange | None) -> None:
    image = data.image
    request.setHeader("content-type", OCTET_STREAM)
    request.setHeader("content-disposition", disposition(image))
    request.setHeader(CACHE_CONTROL, PRIVATE)
    request.setHeader("accept-ranges", "bytes")
    for name, value in _validators(image).headers().items():
        request.setHeader(name, value)
    if image.os_hash_algo in DIGESTS and image.os_hash_value:
        request.setHeader("repr-digest", _repr_digest(image.os_hash_algo, image.os_hash_value))
    if image.checksum is not None:
        request.setHeader("content-md5", image.checksum)
    length = data.size
    if part is not None:
        length = part.length
        request.setResponseCode(206)
        request.setHeader("content-range", part.content_range(data.size))
    request.setHeader("content-length", str(length))


def _repr_digest(algorithm: str, value: str) -> str:
    return f"{DIGESTS[algorithm]}=:{b64encode(bytes.fromhex(value)).decode()}:"
