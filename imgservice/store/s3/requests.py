"""Signed requests to a bucket, repeated where that can help."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import quote

import attrs

from imgservice.concurrency.reactor import Reactor, sleep
from imgservice.concurrency.threads import Threads
from imgservice.net.answers import Fetched
from imgservice.net.bodies import Body
from imgservice.net.client import ConfiguredClient
from imgservice.net.errors import FetchFailed
from imgservice.store.s3.address import Address
from imgservice.store.s3.credentials import Credentials
from imgservice.store.s3.documents import read_document
from imgservice.store.s3.errors import Answered
from imgservice.store.s3.payloads import Payload, Streamed
from imgservice.store.s3.signing import EMPTY, STREAMED, UNSIGNED, Signature, signed_length

T = TypeVar("T")

PAUSES = (0.2, 0.6, 1.8)
"""Seconds before the second and each further attempt."""
CRC32 = "x-amz-checksum-crc32"
DEFAULT_REGION = "us-east-1"
_MOST_ANSWER = 1 << 20
"""Bytes of an answer that is no data."""
_NONE: Mapping[str, str] = {}


@attrs.frozen
class Reply:
    """An answer without data of an image."""

    status: int
    headers: Mapping[str, str]
    text: bytes = attrs.field(repr=False)


@attrs.frozen
class RequestOptions:
    """How requests are sent."""

    region: str | None
    timeout: float
    """Seconds after the first attempt in which others may begin."""
    checksum: bool
    """Whether data that is in memory has a CRC32."""


class Bucket:
    """Sends requests to a bucket.

    `Answered` for every error of the server, `FetchFailed` when there is no usable answer, `NoKeys`
    without credentials.
    """

    def __init__(
        self,
        reactor: Reactor,
        threads: Threads,
        address: Address,
        credentials: Credentials,
        http: ConfiguredClient,
        options: RequestOptions,
    ) -> None:
        self.address = address
        self._reactor = reactor
        self._threads = threads
        self._credentials = credentials
        self._http = http
        self._options = options
        self._region = options.region or address.region

    async def ask(
        self,
        method: str,
        key: str = "",
        parameters: Mapping[str, str] = _NONE,
        headers: Mapping[str, str] = _NONE,
        payload: Payload | Streamed | None = None,
    ) -> Reply:
        """Return the answer, which has a status of success."""
        digest, more = await self._described(payload)

        async def attempt() -> Reply:
            sent = {**headers, **more}
            return await _reply(await self._send(method, key, parameters, sent, payload, digest))

        return await self._repeated(attempt, lambda: payload is None or payload.can_be_sent)

    async def open(self, key: str, headers: Mapping[str, str]) -> Fetched:
        """Return the answer to a GET, with its data; its status is one of success, or 416."""

        async def attempt() -> Fetched:
            answer = await self._send("GET", key, _NONE, headers, None, EMPTY)
            if answer.status not in (200, 206, 416):
                await _reply(answer)
            return answer

        return await self._repeated(attempt)

    async def region(self) -> str:
        if self._region is None:
            self._region = await self._credentials.region() or DEFAULT_REGION
        return self._region

    async def _described(self, payload: Payload | Streamed | None) -> tuple[str, Mapping[str, str]]:
        """Return the digest that is signed, and headers with a checksum."""
        if payload is None:
            return EMPTY, _NONE
        is_private = self.address.scheme == "https"
        if isinstance(payload, Streamed):
            return UNSIGNED if is_private else STREAMED, _NONE
        digest = UNSIGNED if is_private else await self._threads.run(payload.sha256)
        if not self._options.checksum:
            return digest, _NONE
        return digest, {CRC32: await self._threads.run(payload.crc32)}

    async def _send(
        self,
        method: str,
        key: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
        payload: Payload | Streamed | None,
        digest: str,
    ) -> Fetched:
        url = self.address.request_url(key, _query(parameters))
        signature = Signature(await self._credentials.keys(), await self.region())
        sent = {**headers, "host": self.address.host_header}
        if payload is None:
            signed = signature.headers(method, url, sent, digest)
            return await self._http.send(method, url, signed)
        # Data that comes only once is not sent before the server has accepted the headers.
        is_asked_for = isinstance(payload, Streamed)
        if digest != STREAMED:
            body = Body(payload.length, payload.stream, is_asked_for)
            signed = signature.headers(method, url, sent, digest)
            return await self._http.send(method, url, signed, body)
        sent["x-amz-decoded-content-length"] = str(payload.length)
        sent["content-encoding"] = "aws-chunked"
        length = signed_length(payload.length)
        body = Body(length, lambda: signature.chunks(payload.stream()), is_asked_for)
        signed = signature.headers(method, url, sent, digest)
        return await self._http.send(method, url, signed, body)

    async def _repeated(
        self, attempt: Callable[[], Awaitable[T]], can_repeat: Callable[[], bool] = lambda: True
    ) -> T:
        """Try a few times, unless the first attempt has taken all the time."""
        until = self._reactor.seconds() + self._options.timeout
        pauses, has_new_keys = list(PAUSES), False
        while True:
            try:
                return await attempt()
            except (Answered, FetchFailed) as error:
                if not can_repeat():
                    raise
                if not has_new_keys and self._gets_new_keys(error):
                    has_new_keys = True
                    continue
                is_transient = isinstance(error, FetchFailed) or error.is_transient
                if not is_transient or not pauses or self._reactor.seconds() >= until:
                    raise
            await sleep(self._reactor, pauses.pop(0))

    def _gets_new_keys(self, error: Exception) -> bool:
        is_about_keys = isinstance(error, Answered) and error.is_about_keys
        return is_about_keys and self._credentials.forget()


async def _reply(answer: Fetched) -> Reply:
    text = await answer.read(_MOST_ANSWER)
    if 200 <= answer.status < 300:
        return Reply(answer.status, answer.headers, text)
    said = read_document(text)
    region = answer.headers.get("x-amz-bucket-region") or said.get("Region", "")
    raise Answered(answer.status, said.get("Code", ""), region)


def _query(parameters: Mapping[str, str]) -> str:
    """Return the parameters as they are in a URL; one without a value has a `=` nevertheless."""
    return "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in parameters.items()
    )
