"""Routes of the image's bytes: /v2/images/{id}/file."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial

from imgservice.domain.errors import Invalid, NotFound, UnsupportedContent
from imgservice.service.data import DataService, Download, Upload
from imgservice.store.interface import LocalFiles
from imgservice.threads import Threads
from imgservice.web.app import ApiApp
from imgservice.web.ranges import ByteRange, wanted_range
from imgservice.web.respond import Answer, no_content
from imgservice.web.send import Turns, send_blocks, send_file
from imgservice.web.streaming import StreamingRequest

BLOCK = 1 << 20
OCTETS = "application/octet-stream"


def routes(app: ApiApp, data: DataService, threads: Threads, turns: Turns) -> None:
    @app.route("/images/<image_id>/file", methods=["PUT"], takes_body=True)
    async def upload_image(request: StreamingRequest, image_id: str) -> Answer:
        _check_type(request)
        upload = Upload(
            open=partial(_blocks, request),
            size=_announced_size(request),
            store=request.header("x-image-meta-store"),
        )
        await data.upload(request.context, image_id, upload)
        return no_content()

    @app.route("/images/<image_id>/file", methods=["GET"])
    async def download_image(request: StreamingRequest, image_id: str) -> Answer | None:
        download = await data.download(request.context, image_id)
        if download.store is None:
            return no_content()
        part = wanted_range(request.header("range"), request.header("content-range"), download.size)
        try:
            await _send(request, download, part, threads, turns)
        except NotFound:
            return no_content()  # the record says there is data, the store says there is none
        return None


def _blocks(request: StreamingRequest, window: Callable[[], int]) -> AsyncIterator[bytes]:
    return request.body.blocks(min(BLOCK, window() // 2), window)


def _check_type(request: StreamingRequest) -> None:
    declared = request.header("content-type")
    if declared is None or declared.partition(";")[0].strip().lower() != OCTETS:
        raise UnsupportedContent(f"Invalid content type {declared}")


def _announced_size(request: StreamingRequest) -> int | None:
    """Return the size that the client tells in a header of its own, or with Content-Length."""
    text = request.header("x-openstack-image-size")
    if text is None:
        return request.body.length
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid("Invalid or missing image size in request headers.")
    return int(text)


async def _send(
    request: StreamingRequest,
    download: Download,
    part: ByteRange | None,
    threads: Threads,
    turns: Turns,
) -> None:
    store = download.store
    assert store is not None  # noqa: S101
    start, length = (part.start, part.length) if part else (0, download.size)
    if request.method == b"HEAD":
        _set_headers(request, download, part)
        request.finish()
    elif isinstance(store, LocalFiles) and not request.isSecure():
        descriptor = await store.open_file(download.url)
        _set_headers(request, download, part)
        await send_file(request, descriptor, start, length, threads, turns)
    else:
        blocks = store.read(download.url, start, length)
        first = await anext(blocks, b"")  # a missing object is told before the headers are out
        _set_headers(request, download, part)
        await send_blocks(request, _chain(first, blocks), length)


async def _chain(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        if first:
            yield first
        async for block in rest:
            yield block


def _set_headers(request: StreamingRequest, download: Download, part: ByteRange | None) -> None:
    image = download.image
    request.setHeader("content-type", OCTETS)
    if image.checksum is not None:
        request.setHeader("content-md5", image.checksum)
    length = download.size
    if part is not None:
        length = part.length
        request.setResponseCode(206)
        request.setHeader("content-range", part.content_range(download.size))
    request.setHeader("content-length", str(length))
