"""One server answers one sequence: values are filled in, sent, and taken from the answers."""

import base64
import json
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import attrs

from compare.normal import Names, Response, normal_answer
from compare.rows import broken_rows, rows_of
from compare.sequences import Body, Race, RequestSequence, Step
from compare.servers import Reply, Server, ask

PATCH = "application/openstack-images-v2.1-json-patch"
OLD_PATCH = "application/openstack-images-v2.0-json-patch"
TYPES = {
    "json": "application/json",
    "patch": PATCH,
    "patch20": OLD_PATCH,
    "upload": "application/octet-stream",
}
SETTLE_TIME = 120.0
SETTLE_PAUSE = 0.15
AT_WORK = (b'"os_glance_import_task"', b'"status": "importing"', b'"status":"saving"')
"""What a server shows of an image while it is busy with it."""
_VARIABLE = re.compile(r"\{(\w+)\}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@attrs.frozen
class Played:
    """What a server answered, and the rows that it has afterwards, where we may look."""

    answers: list[Response]
    rows: list[Any] | None
    outcomes: list[str] = attrs.field(factory=list)
    """What came of a race: every different outcome once, in their order."""


def play(server: Server, sequence: RequestSequence) -> Played:
    """Ask the server everything in the sequence; of a race only the outcomes are kept."""
    if sequence.race is None:
        return Play(server, sequence).run()
    rounds = range(sequence.race.rounds)
    outcomes = {Play(server, sequence).run_race(sequence.race) for _ in rounds}
    return Played([], None, sorted(outcomes))


class Play:
    """One sequence at one server; afterwards `clean` takes away the images it made."""

    def __init__(self, server: Server, sequence: RequestSequence) -> None:
        self._server = server
        self._sequence = sequence
        self._values = {
            "run": f"run{secrets.token_hex(6)}",
            **{f"id{number}": f"{number}{str(uuid4())[1:]}" for number in range(1, 10)},
            **server.projects,
            "origin": server.origin,
        }
        self._created: list[str] = []

    def run(self) -> Played:
        try:
            answers = [self._step(step) for step in self._sequence.steps]
            return Played(answers, self._rows())
        finally:
            self._clean()

    def run_race(self, race: Race) -> str:
        """Run it once, and tell its outcome: the statuses, what was saved, and what is broken."""
        try:
            for step in self._sequence.steps:
                self._step(step)
            with ThreadPoolExecutor(len(race.steps)) as together:
                replies = list(together.map(self._ask, race.steps))
            for step, reply in zip(race.steps, replies, strict=True):
                self._learn(step, reply)
            for step in race.after:
                self._step(step)
            statuses = " ".join(str(reply.status) for reply in replies)
            return "; ".join((statuses, *self._saved(race.outcome), *self._broken()))
        finally:
            self._clean()

    def _saved(self, outcome: str) -> list[str]:
        return [self._names().text(self._filled(outcome))] if outcome else []

    def _broken(self) -> list[str]:
        database = self._server.database
        return [] if database is None else broken_rows(database, self._created)

    def _step(self, step: Step) -> Response:
        reply = self._settled(step) if step.settle else self._ask(step)
        self._learn(step, reply)
        if step.brief:
            return Response(reply.status, {}, None)
        return normal_answer(reply, self._names())

    def _settled(self, step: Step) -> Reply:
        """Ask until the answer stays the same and the image is not being worked on."""
        deadline = time.monotonic() + SETTLE_TIME
        last = self._ask(step)
        while time.monotonic() < deadline:
            time.sleep(SETTLE_PAUSE)
            reply = self._ask(step)
            if reply.body == last.body and not any(sign in reply.body for sign in AT_WORK):
                return reply
            last = reply
        return last

    def _learn(self, step: Step, reply: Reply) -> None:
        if step.method == "POST" and step.path == "/v2/images" and reply.status == 201:
            self._created.append(json.loads(reply.body)["id"])
        for name, pointer in step.save.items():
            self._values[name] = _find(reply, pointer)

    def _ask(self, step: Step) -> Reply:
        headers: dict[str, str | None] = {
            "Accept": "application/json",
            **self._server.credentials(step.role),
        }
        if step.body is not None and step.body.kind in TYPES:
            headers["Content-Type"] = TYPES[step.body.kind]
        headers.update(self._filled(dict(step.headers)))
        sent = {name: value for name, value in headers.items() if value is not None}
        path = "/" + self._filled(step.path).removeprefix("/")
        body = None if step.body is None else self._bytes(step.body)
        return ask(self._server.url, step.method, path, sent, body, step.chunked)

    def _bytes(self, body: Body) -> bytes:
        if body.kind == "base64":
            return base64.b64decode(body.value)
        value = self._filled(body.value)
        if body.kind in ("upload", "text"):
            return str(value).encode()
        return json.dumps(value).encode()

    def _filled(self, value: Any) -> Any:
        """Put the values of this run for `{name}`; what is no name stays."""
        if isinstance(value, str):
            return _VARIABLE.sub(lambda found: self._values.get(found[1], found[0]), value)
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        if isinstance(value, dict):
            return {self._filled(name): self._filled(one) for name, one in value.items()}
        return value

    def _names(self) -> Names:
        """What stands in answers for the values that no other run has."""
        telling = {
            name: value
            for name, value in self._values.items()
            if name in ("run", *self._server.projects) or _UUID.fullmatch(value)
        }
        return Names(telling, frozenset(self._created))

    def _rows(self) -> list[Any] | None:
        if self._server.database is None:
            return None
        return rows_of(self._server.database, self._created, self._names())

    def _clean(self) -> None:
        url, headers = self._server.url, dict(self._server.credentials("admin"))
        unprotect = json.dumps([{"op": "replace", "path": "/protected", "value": False}])
        for image in self._created:
            path = f"/v2/images/{image}"
            if ask(url, "DELETE", path, headers, None, chunked=False).status == 403:
                typed = {**headers, "Content-Type": PATCH}
                ask(url, "PATCH", path, typed, unprotect.encode(), chunked=False)
                ask(url, "DELETE", path, headers, None, chunked=False)


def _find(reply: Reply, pointer: str) -> str:
    """Return what a pointer points to, or a value that fits nowhere; the empty one: the body."""
    if not pointer:
        return reply.body.decode("latin-1")
    try:
        found: Any = json.loads(reply.body)
        for part in _parts(pointer):
            found = found[int(part)] if isinstance(found, list) else found[part]
    except (ValueError, LookupError, TypeError):
        return "missing"
    return str(found)


def _parts(pointer: str) -> Iterator[str]:
    return (part for part in pointer.split("/") if part)
