"""Everybody asks everything about every image: of ours and of a Glance alike.

    python -m tests.real.matrix --peer URL --peer-open URL --keystone URL/v3 --clouds FILE

asks a running Glance, and an imgservice that it starts, with the same tokens, and prints where they
differ; `--record` also writes down what Glance answered. The second Glance is one whose
`allow_anonymous_access` is on, with the same database and store.
"""

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import cached_property
from http.client import HTTPConnection
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

import attrs
import yaml

from tests.real.client import TIMEOUT, Reply, read_reply
from tests.real.matrix_users import EVERYBODY, EnrolledUsers, enrolled, log_in
from tests.real.roles import PATCH
from tests.real.service import Service, running

FACTS = Path(__file__).with_name("matrix_facts.json")
WANTED = Path(__file__).with_name("matrix_wanted.yaml")
JSON = "application/json"
OCTETS = "application/octet-stream"
VISIBILITIES = ("public", "community", "shared", "private")
ASKED_AT_ONCE = 4
UNLIMITED = {
    "address": {"requests": None, "failures": None},
    "user": {"requests": None},
    "project": {"requests": None, "creates": None},
}

Cell = tuple[str, str, str]
"""What is asked, about which image, and by whom."""
Outcomes = Mapping[Cell, str]
"""A status; with the title, where the document does not have that of the status."""


# -- the images -----------------------------------------------------------------------------------


@attrs.frozen
class Kind:
    """An image that is asked about."""

    visibility: str
    status: str = "active"
    owner: str | None = "ours"
    protected: bool = False
    hidden: bool = False
    members: bool = True
    """Whether it was shared with the projects pending, accepted and rejected, once."""
    gone: str = ""

    @property
    def name(self) -> str:
        words = ["ownerless"] * (self.owner is None) + ["protected"] * self.protected
        words += ["hidden"] * self.hidden + ["alone"] * (not self.members)
        return self.gone or " ".join([self.visibility, self.status, *words])


KINDS = (
    *(Kind(one, status) for one in VISIBILITIES for status in ("active", "queued", "deactivated")),
    *(Kind(one, owner=None) for one in VISIBILITIES),
    Kind("public", protected=True),
    Kind("private", protected=True),
    Kind("public", hidden=True),
    Kind("shared", hidden=True),
    Kind("shared", members=False),
    Kind("private", gone="deleted"),
    Kind("private", gone="absent"),
)


# -- what is asked --------------------------------------------------------------------------------


@attrs.frozen
class Question:
    """One request; `$image` and names of projects stand for ids."""

    method: str
    path: str
    body: str | None = None
    type: str = JSON


def _patch(name: str, value: str) -> Question:
    body = f'[{{"op": "replace", "path": "/{name}", "value": {value}}}]'
    return Question("PATCH", "/v2/images/$image", body, PATCH)


def _tag(method: str, name: str) -> Question:
    return Question(method, f"/v2/images/$image/tags/{name}")


def _act(name: str) -> Question:
    return Question("POST", f"/v2/images/$image/actions/{name}")


def _member(method: str, project: str, body: str | None = None) -> Question:
    path = "/v2/images/$image/members"
    return Question(method, path if method == "POST" else f"{path}/${project}", body)


def _share(project: str) -> Question:
    return _member("POST", project, f'{{"member": "${project}"}}')


def _decide(project: str, status: str) -> Question:
    return _member("PUT", project, f'{{"status": "{status}"}}')


ANEW = None
"""Instead of questions that undo another: the image must be made again."""
Undo = Sequence[Question] | None
UPLOAD = Question("PUT", "/v2/images/$image/file", "data", OCTETS)
DELETE = Question("DELETE", "/v2/images/$image")
LOCATION = '{"url": "http://192.0.2.1/image"}'
_BACK = (_patch("visibility", '"$visibility"'),)

ABOUT_IMAGES: Mapping[str, tuple[Question, Undo]] = {
    "show": (Question("GET", "/v2/images/$image"), ()),
    "download": (Question("GET", "/v2/images/$image/file"), ()),
    "list members": (Question("GET", "/v2/images/$image/members"), ()),
    "show member pending": (_member("GET", "pending"), ()),
    "show member accepted": (_member("GET", "accepted"), ()),
    "show member unknown": (_member("GET", "theirs"), ()),
    "show locations": (Question("GET", "/v2/images/$image/locations"), ()),
    "change a field": (_patch("min_ram", "64"), (_patch("min_ram", "0"),)),
    "change protected": (_patch("protected", "$other"), (_patch("protected", "$protected"),)),
    **{f"make {one}": (_patch("visibility", f'"{one}"'), _BACK) for one in VISIBILITIES},
    "give away": (_patch("owner", '"$theirs"'), (_patch("owner", "$owner"),)),
    "add tag": (_tag("PUT", "red"), (_tag("DELETE", "red"),)),
    "delete tag": (_tag("DELETE", "green"), (_tag("PUT", "green"),)),
    "delete unknown tag": (_tag("DELETE", "blue"), ()),
    "upload": (UPLOAD, ANEW),
    "deactivate": (_act("deactivate"), (_act("$back"),)),
    "reactivate": (_act("reactivate"), (_act("$back"),)),
    "add member": (_share("theirs"), (_member("DELETE", "theirs"),)),
    "add known member": (_share("pending"), ()),
    "pending accepts": (_decide("pending", "accepted"), (_decide("pending", "pending"),)),
    "accepted rejects": (_decide("accepted", "rejected"), (_decide("accepted", "accepted"),)),
    "rejected accepts": (_decide("rejected", "accepted"), (_decide("rejected", "rejected"),)),
    "unknown accepts": (_decide("theirs", "accepted"), ()),
    "delete member": (
        _member("DELETE", "accepted"),
        (_share("accepted"), _decide("accepted", "accepted")),
    ),
    "delete unknown member": (_member("DELETE", "theirs"), ()),
    "add location": (Question("POST", "/v2/images/$image/locations", LOCATION), ANEW),
    "delete": (DELETE, ANEW),
}
"""Questions, and what undoes them."""
AFTERWARDS = "afterwards"
"""Whether the image is as it was, after all that and the undoing of what was allowed."""

GENERAL: Mapping[str, Question] = {
    path: Question("GET", path)
    for path in (
        "/v2/info/stores",
        "/v2/info/stores/detail",
        "/v2/info/usage",
        "/v2/schemas/image",
        "/v2/images?limit=0",
    )
}

LISTS = (
    "",
    *(f"visibility={one}" for one in (*VISIBILITIES, "all")),
    *(f"member_status={one}" for one in ("all", "pending", "accepted", "rejected")),
    *(
        f"visibility=shared&member_status={one}"
        for one in ("all", "pending", "accepted", "rejected")
    ),
    "os_hidden=true",
    "os_hidden=true&visibility=all",
    "status=deactivated",
    "protected=true",
    "owner=$ours",
    "owner=$theirs",
    "owner=$ours&visibility=private",
    "owner=$ours&visibility=community",
)

NEW: Mapping[str, str] = {
    f"create {'of ' if owner else ''}{owner or 'own'}, {visibility or 'as it comes'}": json.dumps(
        {
            "name": "new",
            **({"owner": None if owner == "nobody" else f"${owner}"} if owner else {}),
            **({"visibility": visibility} if visibility else {}),
        }
    )
    for owner in ("", "ours", "theirs", "nobody")
    for visibility in ("", *VISIBILITIES)
}


# -- asking ---------------------------------------------------------------------------------------


class Line:
    """A connection that is kept, where the server keeps it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = HTTPConnection(
            address.hostname or "", address.port or 80, timeout=TIMEOUT
        )

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        self._connection.request(method, path, body, headers)
        return read_reply(self._connection.getresponse())


@attrs.define
class Server:
    """A service, beside one that lets in who shows nothing, and those who may ask them."""

    url: str
    open_url: str
    users: EnrolledUsers
    run: str = attrs.field(factory=lambda: f"run-{uuid.uuid4().hex[:8]}")
    """A tag that all of its images have."""
    _lines: threading.local = attrs.field(factory=threading.local, repr=False)
    _opened: list[Line] = attrs.field(factory=list, repr=False)

    def ask(self, caller: str, question: Question, names: Mapping[str, str]) -> Reply:
        """Ask with these values for what stands in the question with a `$`."""
        known = {**self.users.projects, **names}
        headers = {**self.users.headers[caller], "Accept": JSON}
        body = None
        if question.body is not None:
            body = Template(question.body).substitute(known).encode()
            headers["Content-Type"] = question.type
        path = Template(question.path).substitute(known)
        return self._line(caller).ask(question.method, path, body, headers)

    def do(self, question: Question, names: Mapping[str, str]) -> Reply:
        """Ask as the administrator, who is not refused."""
        reply = self.ask("admin", question, names)
        assert reply.status < 300, (question, names, reply)
        return reply

    def _line(self, caller: str) -> Line:
        url = self.open_url if caller.endswith("open") else self.url
        lines: dict[str, Line] = vars(self._lines)
        if url not in lines:
            lines[url] = Line(url)
            self._opened.append(lines[url])
        return lines[url]

    def close(self) -> None:
        for line in self._opened:
            line.close()


def outcome(reply: Reply) -> str:
    if reply.status < 400:
        return str(reply.status)
    try:
        document = reply.json()
        title, code = document["title"], document["code"]
    except (ValueError, KeyError, TypeError):
        return f"{reply.status}:{reply.headers.get('content-type', 'nothing').split(';')[0]}"
    return str(reply.status) if code == f"{reply.status} {title}" else f"{reply.status}:{code}"


# -- the images of one run ------------------------------------------------------------------------


class Image:
    """The image of a kind at one server, made again when it is gone."""

    def __init__(self, server: Server, kind: Kind) -> None:
        self.server = server
        self.kind = kind
        self.id = str(uuid.uuid4())
        if kind.gone != "absent":
            self.make()
        if kind.gone == "deleted":
            self.server.do(DELETE, self.names)
        self.first = self.state()

    @property
    def names(self) -> Mapping[str, str]:
        """What `$` names stand for in questions about it."""
        kind = self.kind
        owner = None if kind.owner is None else self.server.users.projects[kind.owner]
        return {
            "image": self.id,
            "visibility": kind.visibility,
            "owner": json.dumps(owner),
            "protected": json.dumps(kind.protected),
            "other": json.dumps(not kind.protected),
            "back": "deactivate" if kind.status == "deactivated" else "reactivate",
        }

    def make(self) -> None:
        do, kind = self.server.do, self.kind
        fields = {
            "name": kind.name,
            "tags": [self.server.run, "green"],
            "disk_format": "raw",
            "container_format": "bare",
            "visibility": "shared",
            "protected": kind.protected,
            "os_hidden": kind.hidden,
            "owner": json.loads(self.names["owner"]),
        }
        body = json.dumps(fields)
        self.id = do(Question("POST", "/v2/images", body), {}).json()["id"]
        for project in ("pending", "accepted", "rejected") if kind.members else ():
            do(_share(project), self.names)
            do(_decide(project, project), self.names)
        if kind.status != "queued":
            do(UPLOAD, self.names)
        if kind.status == "deactivated":
            do(_act("deactivate"), self.names)
        do(_patch("visibility", '"$visibility"'), self.names)

    def remove(self) -> None:
        if not self.kind.gone:
            self.server.do(_patch("protected", "false"), self.names)
            self.server.do(DELETE, self.names)

    def make_anew(self) -> None:
        """The image may be there still, or not."""
        self.server.ask("admin", _patch("protected", "false"), self.names)
        self.server.ask("admin", DELETE, self.names)
        self.make()

    def undo(self, undo: Undo) -> None:
        if undo is ANEW:
            self.make_anew()
        else:
            for question in undo:
                self.server.do(question, self.names)

    def state(self) -> Any:
        """Return all that there is to know of it, but what differs between two of a kind."""
        shown = self.server.ask("admin", ABOUT_IMAGES["show"][0], self.names)
        if shown.status == 404:
            return None
        members = self.server.ask("admin", ABOUT_IMAGES["list members"][0], self.names)
        own = {"id", "self", "file", "created_at", "updated_at"}
        found = {name: value for name, value in shown.json().items() if name not in own}
        found["tags"].sort()
        listed = members.json()["members"] if members.status == 200 else []
        return found, sorted((one["member_id"], one["status"]) for one in listed)


# -- the run --------------------------------------------------------------------------------------


@attrs.define
class Found:
    """What was answered."""

    outcomes: dict[Cell, str] = attrs.field(factory=dict)
    refusals: dict[Cell, bytes] = attrs.field(factory=dict, repr=False)
    """The documents of those to whom the image was not there, without its id."""

    def note(self, cell: Cell, reply: Reply, image_id: str = "-") -> None:
        self.outcomes[cell] = outcome(reply)
        if reply.status >= 400:
            self.refusals[cell] = reply.body.replace(image_id.encode(), b"ID")

    def told_apart(self) -> list[Cell]:
        """Return where one who may not see an image gets another answer than for none.

        Another service may ask for locations, whether or not it sees the image.
        """
        return [
            (question, image, caller)
            for question, image, caller in self.outcomes
            if question in ABOUT_IMAGES
            and self.outcomes["show", image, caller] == "404"
            and not (caller == "service" and "location" in question)
            and self._answer((question, image, caller))
            != self._answer((question, "absent", caller))
        ]

    def _answer(self, cell: Cell) -> tuple[str, bytes]:
        return self.outcomes[cell], self.refusals.get(cell, b"")


def ask_everything(server: Server) -> Found:
    """Make an image of every kind, let everybody ask everything about it, and remove it."""
    found = Found()
    with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
        images = list(threads.map(lambda kind: Image(server, kind), KINDS))
        try:
            list(threads.map(lambda caller: _ask_in_general(server, found, caller), EVERYBODY))
            list(threads.map(lambda image: _ask_about(server, found, image), images))
        finally:
            list(threads.map(Image.remove, images))
            server.close()
    return found


def _ask_in_general(server: Server, found: Found, caller: str) -> None:
    for name, question in GENERAL.items():
        found.note((name, "-", caller), server.ask(caller, question, {}))
    for query in LISTS:
        path = f"/v2/images?limit=500&tag={server.run}&{query}".removesuffix("&")
        reply = server.ask(caller, Question("GET", path), {})
        listed = reply.status == 200 and {one["name"] for one in reply.json()["images"]}
        for kind in KINDS:
            there = outcome(reply) if listed is False else "yes" if kind.name in listed else "no"
            found.outcomes[f"list {query}".strip(), kind.name, caller] = there
    for name, body in NEW.items():
        reply = server.ask(caller, Question("POST", "/v2/images", body), {})
        found.note((name, "-", caller), reply)
        if reply.status == 201:
            server.do(DELETE, {"image": reply.json()["id"]})


def _ask_about(server: Server, found: Found, image: Image) -> None:
    for caller in EVERYBODY:
        for name, (question, undo) in ABOUT_IMAGES.items():
            asked = image.id
            reply = server.ask(caller, question, image.names)
            found.note((name, image.kind.name, caller), reply, asked)
            if reply.status < 300:
                image.undo(undo)
        state = image.state()
        found.outcomes[AFTERWARDS, image.kind.name, caller] = (
            "same" if state == image.first else "changed"
        )
        if state != image.first:
            image.make_anew()


# -- the facts ------------------------------------------------------------------------------------


def write_facts(outcomes: Outcomes) -> None:
    """Write them by question and image, those of all callers in a row; images alike together."""
    rows: dict[str, dict[str, list[str]]] = {}
    for question, image in sorted({(question, image) for question, image, _ in outcomes}):
        answers = [outcomes[question, image, caller].replace(" ", "_") for caller in EVERYBODY]
        rows.setdefault(question, {}).setdefault(" ".join(answers), []).append(image)
    FACTS.write_text(json.dumps({"callers": EVERYBODY, "answers": rows}, indent=1) + "\n")


def read_facts() -> Outcomes:
    document = json.loads(FACTS.read_text())
    return {
        (question, image, caller): answer.replace("_", " ")
        for question, rows in document["answers"].items()
        for row, images in rows.items()
        for image in images
        for caller, answer in zip(document["callers"], row.split(" "), strict=True)
    }


# -- differences ----------------------------------------------------------------------------------


@attrs.frozen
class Difference:
    cell: Cell
    glance: str
    ours: str
    is_unseen: bool
    """Glance does not show the image to the caller."""


@attrs.frozen
class Wanted:
    """Differences that are meant to be; patterns are those of a shell."""

    reason: str
    question: str | list[str] = "*"
    image: str | list[str] = "*"
    caller: str | list[str] = "*"
    glance: str = "*"
    ours: str = "*"
    unseen: bool = False
    """Only where Glance does not show the image to the caller."""

    def fits(self, found: Difference) -> bool:
        name, image, caller = found.cell
        return (
            _fits(self.question, name)
            and _fits(self.image, image)
            and _fits(self.caller, caller)
            and fnmatchcase(found.glance, self.glance)
            and fnmatchcase(found.ours, self.ours)
            and (found.is_unseen or not self.unseen)
        )


def _fits(patterns: str | list[str], text: str) -> bool:
    given = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatchcase(text, one) for one in given)


def load_wanted() -> list[Wanted]:
    return [Wanted(**entry) for entry in yaml.safe_load(WANTED.read_text()) or []]


@attrs.frozen
class Comparison:
    glance: Outcomes
    ours: Outcomes

    @cached_property
    def differences(self) -> list[Difference]:
        return [
            Difference(
                cell,
                self.glance.get(cell, "-"),
                self.ours.get(cell, "-"),
                self.glance.get(("show", *cell[1:])) == "404",
            )
            for cell in {**self.glance, **self.ours}
            if self.glance.get(cell) != self.ours.get(cell)
        ]

    def report(self, wanted: Sequence[Wanted]) -> list[str]:
        """Return a line for every row of differences that nobody wants, and every stale wish."""
        found = [one for one in self.differences if not any(w.fits(one) for w in wanted)]
        stale = [w for w in wanted if not any(w.fits(one) for one in self.differences)]
        lines = [f"fits nothing any more: {one}" for one in stale]
        found.sort(key=lambda one: (one.cell[0], one.cell[2], one.glance, one.ours, one.cell[1]))
        alike = groupby(found, lambda one: (one.cell[0], one.cell[2], one.glance, one.ours))
        for (question, caller, glance, ours), group in alike:
            images = ", ".join(one.cell[1] for one in group)
            lines.append(f"{question} | {caller} | Glance: {glance} | ours: {ours} | {images}")
        return lines


# -- ours -----------------------------------------------------------------------------------------


@attrs.frozen
class Pair:
    """Two services with one database: the second lets in who shows nothing."""

    closed: Service
    open: Service

    def said(self) -> str:
        """Return all that they have written."""
        return "".join(
            one.log.read_text() + one.said.read_text() for one in (self.closed, self.open)
        )


@contextmanager
def ours(directory: Path, auth: Mapping[str, Any]) -> Iterator[Pair]:
    """Run them with two stores, as the Glance has, and with a log of everything."""
    stores = {
        "local": {"type": "file", "path": str(directory / "images")},
        "second": {"type": "file", "path": str(directory / "second")},
    }
    shared = {
        "database": {"url": f"sqlite:///{directory}/imgservice.db"},
        "stores": stores,
        "default_store": "local",
        "limits": {"rate": UNLIMITED},
        "logging": {"level": "debug"},
    }
    with ExitStack() as stack:
        closed = stack.enter_context(running(directory, {**shared, "auth": auth}))
        beside = directory / "open"
        beside.mkdir()
        opened = Service(beside, {**shared, "auth": {**auth, "anonymous_read": True}})
        opened.database, opened.store = closed.database, closed.store
        stack.callback(opened.end)
        yield Pair(closed, opened.start())
        opened.stop()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real.matrix")
    parser.add_argument("--peer", required=True, help="URL of a Glance that asks Keystone")
    parser.add_argument("--peer-open", required=True, help="one with allow_anonymous_access")
    parser.add_argument("--keystone", required=True, help="URL of Keystone, up to /v3")
    parser.add_argument("--clouds", type=Path, required=True, help="has an entry admin")
    parser.add_argument("--record", action="store_true", help="write down what Glance answers")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # what was made is removed then
    account = yaml.safe_load(chosen.clouds.read_text())["clouds"]["admin"]["auth"]
    with (
        enrolled(log_in(chosen.keystone, account)) as users,
        tempfile.TemporaryDirectory() as made,
    ):
        glance = timed("Glance", Server(chosen.peer, chosen.peer_open, users)).outcomes
        if chosen.record:
            write_facts(glance)
        own = {name: account[name] for name in ("username", "password")}
        keystone = {"url": chosen.keystone, **own, "project": account["project_name"]}
        with ours(Path(made), {"mode": "keystone", "keystone": keystone}) as pair:
            found = timed("ours", Server(pair.closed.client.url, pair.open.client.url, users))
    lines = Comparison(glance, found.outcomes).report(load_wanted())
    lines += [f"can be told from none: {cell}" for cell in found.told_apart()]
    print(*(lines or ["Every answer is Glance's, or differs as is wanted."]), sep="\n")
    return 1 if lines else 0


def timed(name: str, server: Server) -> Found:
    begin = time.monotonic()
    found = ask_everything(server)
    print(f"{name}: {len(found.outcomes)} answers, {time.monotonic() - begin:.1f} s", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
