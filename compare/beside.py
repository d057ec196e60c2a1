"""Services that share a database and stores: each must go on where another left off.

Images live whole lives, and every request of one goes to the next of the services in turn.
"""

import hashlib
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import attrs

PATCH = "application/openstack-images-v2.1-json-patch"
TIMEOUT = 60.0
LARGEST = 300_000
"""Bytes in an image."""
FRIEND = "beside-friend"


class WrongAnswer(Exception):
    """What a service said is not what must follow from what was done before."""


@attrs.frozen
class Services:
    """The services, which are asked in turns."""

    urls: Sequence[str]
    headers: Mapping[str, str]
    answers: Counter[str] = attrs.field(factory=Counter)
    """By service and status."""
    _turns: Iterator[str] = attrs.field(init=False)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    @_turns.default
    def _endless(self) -> Iterator[str]:
        return itertools.cycle(self.urls)

    def ask(
        self, method: str, path: str, status: int, body: Any = None, type_: str = "application/json"
    ) -> bytes:
        """Return the body of an answer of that status; `WrongAnswer` for any other."""
        with self._lock:
            url = next(self._turns)
        found, data = self._exchange(url, method, path, body, type_)
        with self._lock:
            self.answers[f"{url} {found}"] += 1
        if found != status:
            told = f"{found} instead of {status}: {data[:200]!r}"
            raise WrongAnswer(f"{url}: {method} {path}: {told}")
        return data

    def _exchange(
        self, url: str, method: str, path: str, body: Any, type_: str
    ) -> tuple[int, bytes]:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc, timeout=TIMEOUT)
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        headers = {**self.headers, **({} if data is None else {"Content-Type": type_})}
        try:
            connection.request(method, parts.path + path, data, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@attrs.frozen
class Outcome:
    lives: int
    answers: Mapping[str, int]
    wrong: Sequence[str]


def run_beside(
    services: Services, seconds: float, most: int | None = None, threads: int = 4
) -> Outcome:
    """Let new images begin to live for so long, but no more than that many."""
    end, began = time.monotonic() + seconds, f"beside-{random.randrange(1 << 32):08x}"  # noqa: S311  no secret
    lives: list[int] = []
    wrong: list[str] = []
    numbers = itertools.count() if most is None else iter(range(most))

    def go_on() -> None:
        for number in numbers:
            if time.monotonic() > end:
                return
            try:
                live(services, f"{began}-{number}", is_deleted=bool(number % 2))
                lives.append(number)
            except (WrongAnswer, OSError, HTTPException, ValueError, LookupError) as error:
                wrong.append(f"{type(error).__name__}: {error}")

    running = [threading.Thread(target=go_on) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return Outcome(len(lives), dict(sorted(services.answers.items())), wrong)


def live(services: Services, name: str, is_deleted: bool) -> None:
    """Let one image live, and look after each step at what has become of it."""
    ask = services.ask
    chance = random.Random(name)  # noqa: S311  no secret
    data = chance.randbytes(chance.randint(1, LARGEST))
    wanted = {"name": name, "disk_format": "raw", "container_format": "bare",
              "tags": ["a", "b"], "one": "x"}  # fmt: skip
    path = f"/v2/images/{json.loads(ask('POST', '/v2/images', 201, wanted))['id']}"
    patch = [{"op": "replace", "path": "/one", "value": "y"},
             {"op": "add", "path": "/two", "value": "z"}]  # fmt: skip
    ask("PATCH", path, 200, patch, PATCH)
    ask("PUT", f"{path}/file", 204, data, "application/octet-stream")
    for _ in services.urls:
        _look(services, path, data, "active")
    # The row of a property is used again, whoever has removed it.
    ask("PATCH", path, 200, [{"op": "remove", "path": "/one"}], PATCH)
    ask("PATCH", path, 200, [{"op": "add", "path": "/one", "value": "y"}], PATCH)
    _share(services, path)
    ask("POST", f"{path}/actions/deactivate", 204)
    _look(services, path, data, "deactivated")
    ask("POST", f"{path}/actions/reactivate", 204)
    found = json.loads(ask("GET", f"/v2/images?name={name}", 200))["images"]
    _expect(path, "the list", [f"/v2/images/{image['id']}" for image in found], [path])
    if is_deleted:
        _delete(services, path)


def _look(services: Services, path: str, data: bytes, status: str) -> None:
    image = json.loads(services.ask("GET", path, 200))
    expected = {
        "status": status,
        "size": len(data),
        "checksum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "os_hash_value": hashlib.sha512(data).hexdigest(),
        "one": "y",
        "two": "z",
    }
    _expect(path, "its record", {key: image.get(key) for key in expected}, expected)
    _expect(path, "its tags", sorted(image["tags"]), ["a", "b"])
    _expect(path, "its data", services.ask("GET", f"{path}/file", 200) == data, True)


def _share(services: Services, path: str) -> None:
    """Share it twice: the second time the row of the first is used again."""
    ask, member = services.ask, f"{path}/members/{FRIEND}"
    for _ in range(2):
        ask("POST", f"{path}/members", 200, {"member": FRIEND})
        ask("PUT", member, 200, {"status": "accepted"})
        found = json.loads(ask("GET", f"{path}/members", 200))["members"]
        _expect(path, "its members", [one["status"] for one in found], ["accepted"])
        ask("DELETE", member, 204)


def _delete(services: Services, path: str) -> None:
    """Delete it: it is gone everywhere, and its id is taken for ever."""
    services.ask("DELETE", path, 204)
    for _ in services.urls:
        services.ask("GET", path, 404)
        services.ask("POST", "/v2/images", 409, {"id": path.rpartition("/")[2]})


def _expect(path: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WrongAnswer(f"{path}: {what}: {found!r} instead of {expected!r}")
