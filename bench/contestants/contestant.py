"""What every measured server can do, whatever it is."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import attrs

from bench.address import Address, ask
from bench.databases import DatabaseServer
from bench.errors import Wrong
from bench.processes import Process
from bench.transfer import STORED

STARTING_SECONDS = 60
POLL_SECONDS = 0.005


class Contestant(Protocol):
    """A server to which bytes can be put, and which answers a small document.

    `column` names it in the tables; `pid` is the root of its processes, None when unknown.
    """

    @property
    def column(self) -> str: ...
    @property
    def address(self) -> Address: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def database(self) -> DatabaseServer | None:
        """The server of its database, where that is a server and known."""

    def place(self) -> str:
        """Return a new path for one PUT, and for GETs after it."""

    def document(self, size: int) -> str:
        """Return the path of a small answer; a server that can choose makes it `size` bytes."""

    def remove(self, path: str) -> None:
        """Remove what `place` or `document` made; `Wrong` when the server refuses."""


@attrs.frozen
class Images:
    """A server of the Images API."""

    column: str
    address: Address
    pid: int | None
    database: DatabaseServer | None = None
    database_url: str | None = attrs.field(default=None, repr=False)

    def place(self) -> str:
        """Create an image; its data is the file."""
        return f"/v2/images/{self._create({})}/file"

    def document(self, size: int) -> str:
        """Create an image with tags and properties: the document is what `show` says of it."""
        properties = {f"property_{number}": f"value number {number}" for number in range(10)}
        return f"/v2/images/{self._create({'tags': ['one', 'two', 'three'], **properties})}"

    def remove(self, path: str) -> None:
        """Delete the image."""
        image = path.removesuffix("/file")
        status, body = ask(self.address, self.address.request("DELETE", image))
        if status != 204:
            raise Wrong(f"DELETE {image} was answered {status} {body[:200]!r}")

    def _create(self, more: dict[str, object]) -> str:
        status, body = ask(self.address, creation(self.address, more))
        if status != 201:
            raise Wrong(f"POST /v2/images was answered {status} {body[:200]!r}")
        return id_in(body)


@attrs.frozen
class Plain:
    """A server that stores what is PUT and forgets what is DELETEd: a limit."""

    column: str
    address: Address
    pid: int | None
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, repr=False)
    database: DatabaseServer | None = None

    def place(self) -> str:
        """Return a path of its own."""
        return f"/file-{next(self._numbers)}"

    def document(self, size: int) -> str:
        """Put a document of exactly `size` bytes."""
        path = f"/document-{next(self._numbers)}"
        status, body = ask(self.address, self.address.request("PUT", path, b"x" * size))
        if status not in STORED:
            raise Wrong(f"PUT {path} was answered {status} {body[:200]!r}")
        return path

    def remove(self, path: str) -> None:
        """Delete the file."""
        status, body = ask(self.address, self.address.request("DELETE", path))
        if status not in STORED:
            raise Wrong(f"DELETE {path} was answered {status} {body[:200]!r}")


def creation(address: Address, more: dict[str, object]) -> bytes:
    """Return the request that creates an image to which any bytes may be uploaded."""
    image = {"name": "bench", "disk_format": "raw", "container_format": "bare", **more}
    body = json.dumps(image).encode()
    return address.request("POST", "/v2/images", body, Content_Type="application/json")


def id_in(body: bytes) -> str:
    """Return the id of the image that the body describes."""
    try:
        image_id: str = json.loads(body)["id"]
    except (ValueError, LookupError, TypeError):
        raise Wrong(f"this is no image: {body[:200]!r}") from None
    return image_id


@contextmanager
def kept(contestant: Contestant, path: str) -> Iterator[str]:
    """Remove `path` in the end. That it could not be removed is not what went wrong first."""
    try:
        yield path
    finally:
        with suppress(OSError, Wrong):
            contestant.remove(path)


def wait_for(address: Address, process: Process) -> int:
    """Return the status of the first answer; `Wrong` when the process ends or takes a minute."""
    deadline = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < deadline:
        if process.ended:
            raise Wrong(f"{process.name} ended while starting:\n{process.last_words}")
        with suppress(ConnectionError):
            return ask(address, address.request("GET", "/versions"))[0]
        time.sleep(POLL_SECONDS)
    raise Wrong(f"{process.name} gave no answer in {STARTING_SECONDS} s")
