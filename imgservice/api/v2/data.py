"""Routes of the image's bytes: /v2/images/{id}/file."""

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial

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
from imgservice.http.route import NOTHING, OCTETS, RouteInfo
from imgservice.http.routing import ApiApp
from imgservice.http.sending import Sender
from imgservice.http.throttle import Throttle, Transfers
from imgservice.service.data import DataService, Upload
from imgservice.service.reading import ImageData, OpenBlocks, OpenFile, ReadingService

BLOCK = 1 << 20
DIGESTS = {"sha512": "sha-512", "sha256": "sha-256"}
"""What RFC 9530 calls the algorithms that it is sure about."""
OCTET_STREAM = "application/octet-stream"

UPLOAD = RouteInfo(
    "Upload the data of an image.",
    {204: NOTHING},
    errors=(409, 410, 413, 415),
    body=OCTETS,
    headers=("X-Image-Meta-Store", "X-OpenStack-Image-Size"),
)
DOWNLOAD = RouteInfo(
    "Download the data of an image, or a part of it.",
    {200: OCTETS, 204: NOTHING, 206: OCTETS, 304: NOTHING},
    errors=(412, 416),
    headers=(
        "Range", "If-Range", "If-Match", "If-None-Match",
        "If-Modified-Since", "If-Unmodified-Since",
    ),
    query={"prefer": {"type": "string"}},
)  # fmt: skip


def routes(
    app: ApiApp,
    data: DataService,
    reading: ReadingService,
    sender: Sender,
    transfers: Transfers,
    acceleration: accel.Acceleration,
) -> None:
    @app.route("/images/<image_id>/file", methods=["PUT"], takes_body=True, about=UPLOAD)
    async def upload_image(request: StreamingRequest, image_id: str) -> Response:
        _check_type(request)
        upload = Upload(
            open=partial(_blocks, request, transfers.incoming(request)),
            size=_announced_size(request),
            store=request.header("x-image-meta-store"),
        )
        with transfers.upload(request.context):
            await data.upload(request.context, image_id, upload)
        return no_content()

    @app.route("/images/<image_id>/file", methods=["GET"], about=DOWNLOAD)
    async def download_image(request: StreamingRequest, image_id: str) -> Response | None:
        found = await reading.find(request.context, image_id, _preferred(request))
        if not found.copies:
            return no_content()
        current = _validators(found.image)
        check_unchanged(request, current)
        if is_known(request, current):
            return not_modified(current)
        part = _wanted_part(request, current, found.size)
        if request.method == b"HEAD":
            _set_headers(request, found, part)
            return None
        pace = transfers.outgoing(request)
        place = None if pace else await acceleration.place(request, found)
        if place is not None:
            _set_headers(request, found, None)
            return Response(200, headers={accel.HEADER: place})
        opened = await _open(found, part, sender.takes_files(request))
        if opened is None:
            return no_content()  # the record says there is data, the stores say there is none
        async with aclosing(opened):
            _set_headers(request, found, part)
            await sender.send(request, opened, pace)
        return None


def _blocks(
    request: StreamingRequest, pace: Throttle | None, window: Callable[[], int]
) -> AsyncIterator[bytes]:
    if pace is not None:
        return pace.slowed(request.body.blocks, BLOCK, window)
    return request.body.blocks(BLOCK, window)


def _check_type(request: StreamingRequest) -> None:
    declared = request.header("content-type")
    if declared is None or declared.partition(";")[0].strip().lower() != OCTET_STREAM:
        raise UnsupportedContent(f"Invalid content type {declared}")


def _announced_size(request: StreamingRequest) -> int | None:
    """Return the size that the client tells in a header of its own, or with Content-Length.

    There 0 is what a client says that does not know it.
    """
    text = request.header("x-openstack-image-size")
    if text is None:
        return request.body.length
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid("Invalid or missing image size in request headers.")
    return int(text) or None


def _preferred(request: StreamingRequest) -> list[str]:
    """Return the ids of stores in `?prefer=a,b`; the last one counts, as everywhere."""
    given = dict(parse_query(request.uri.partition(b"?")[2])).get("prefer", "")
    return [name.strip() for name in given.split(",") if name.strip()]


def _validators(image: Image) -> Validators:
    """Return what tells the data apart: its hash, as long as it has one.

    What has none may lie where somebody else changes it, and the image would not know.
    """
    content = image.os_hash_value or image.checksum
    return Validators(f'"{content}"', image.updated_at) if content else Validators()


def _wanted_part(request: StreamingRequest, current: Validators, size: int) -> ByteRange | None:
    if request.method == b"HEAD" or not wants_part(request, current):
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
