"""What an operator finds in the log, and how a node is taken out of service."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.process.test_roles import with_roles
from tests.real.service import Service, running, wait_until
from tests.real.streams import upload_head
from tests.real.troubles import readiness

TEXT = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) access (?P<request_id>\S+)"
    r" (?P<client>\S+) (?P<user>\S+) (?P<project>\S+) (?P<method>\S+) (?P<path>\S+)"
    r" (?P<status>\S+) in=(?P<received>\d+) out=(?P<sent>\d+) (?P<seconds>[\d.]+)s"
)


def access_lines(service: Service, log: Path, as_json: bool) -> list[dict[str, Any]]:
    """Return the requests that were logged, oldest first, but for those of the start."""
    found = []
    for line in log.read_text().splitlines():
        if as_json:
            facts = json.loads(line)  # every line is JSON
            if facts["level"] == "access":
                found.append(facts)
        elif " access " in line:
            matched = TEXT.fullmatch(line)
            assert matched, line
            found.append(matched.groupdict())
    return found


@pytest.mark.parametrize("kind", ["text", "json"])
def test_one_line_for_every_request(tmp_path: Path, kind: str) -> None:
    options = {"logging": {"format": kind}, "auth": {"mode": "trusted_headers"}}
    with running(tmp_path, options) as service:
        client = with_roles(service.client, "member,reader", "ours")
        client.headers["X-User-Id"] = "alice"  # type: ignore[index]  # without a space
        image_id = client.create()
        client.upload(image_id, bytes(70_000))
        client.download(image_id, X_Openstack_Request_ID="req-mine")
        client.get("/v2/images/none?token=x%0a", X_Auth_Token="pa55word")
        client.get("/healthcheck")
        with client.connect() as connection:
            fields = [f"{name}: {value}" for name, value in client.headers.items()]
            begun = client.create()
            connection.sendall(upload_head(begun, "Content-Length: 100", *fields) + b"some")
            wait_until(lambda: client.show(begun)["status"] == "saving")
        wait_until(lambda: client.show(begun)["status"] == "queued")
    text = service.log.read_text()
    assert "pa55word" not in text
    lines = access_lines(service, service.log, kind == "json")
    shown = [(one["method"], one["path"], str(one.get("status"))) for one in lines]
    file = f"/v2/images/{image_id}/file"
    assert shown[:5] == [
        ("POST", "/v2/images", "201"),
        ("PUT", file, "204"),
        ("GET", file, "200"),
        ("GET", "/v2/images/none?token=***", "404"),
        ("POST", "/v2/images", "201"),
    ]
    _, upload, download, refused = lines[:4]
    for one in (upload, download, refused):
        assert (one["client"], one["user"], one["project"]) == ("127.0.0.1", "alice", "ours")
        assert 0 <= float(one["seconds"]) < 60
    assert int(upload["received"]) == int(download["sent"]) == 70_000
    assert download["request_id"] == "req-mine"
    assert re.fullmatch(r"req-[0-9a-f-]{36}", upload["request_id"])
    [aborted] = [one for one in lines if begun in one["path"] and one["method"] == "PUT"]
    if kind == "json":
        assert aborted["aborted"] is True and "status" not in aborted
    else:
        assert aborted["status"] == "aborted"
    assert "/healthcheck" not in text and "factory" not in text
    assert len({(one["request_id"]) for one in lines[:4]}) == 4


def test_access_log_can_be_off(tmp_path: Path) -> None:
    with running(tmp_path, {"logging": {"access": False}}) as service:
        service.client.get("/v2/images")
    assert " access " not in service.log.read_text()


def test_log_file_that_is_moved_away(tmp_path: Path) -> None:
    log, moved = tmp_path / "service.log", tmp_path / "service.log.1"
    with running(tmp_path, {"logging": {"file": str(log)}}) as service:
        service.client.get("/v2/images?limit=1")
        wait_until(lambda: "limit=1" in log.read_text())
        log.rename(moved)
        service.client.get("/v2/images?limit=2")
        wait_until(lambda: log.exists() and "limit=2" in log.read_text())
        service.client.get("/v2/images?limit=3")
        wait_until(lambda: "limit=3" in log.read_text())
        assert "limit=2" not in moved.read_text()
        assert "limit=1" not in log.read_text()
    assert service.output.read_text() == ""


FORGED = "a b\u2028c\u202ed\x1b[31m\u009b1me\tf"
"""Blanks, separators, marks of direction, and what colours a terminal."""


@pytest.mark.parametrize("kind", ["text", "json"])
def test_clients_cannot_shift_or_colour_lines(tmp_path: Path, kind: str) -> None:
    options = {"logging": {"format": kind}, "auth": {"mode": "trusted_headers"}}
    with running(tmp_path, options) as service:
        client = with_roles(service.client, "member,reader", "ours")
        value = FORGED.encode().decode("latin-1")
        fields = {**client.headers, "X-User-Id": value, "X-Project-Id": value}
        fields["X-OpenStack-Request-ID"] = "a b 200 in=0"
        head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())
        path = "/v2/images/\u2028\x0b\x1b[31m"
        for line in ("GET /v2/images", f"GET {path}", "GET /v2/images?a b"):
            asked = f"{line} HTTP/1.1\r\nHost: localhost\r\n".encode() + head.encode("latin-1")
            client.exchange(asked + b"\r\n")
        client.get("/v2/images?last")
    log = service.log.read_text()
    assert log.replace("\n", "").isprintable()
    lines = access_lines(service, service.log, kind == "json")
    assert len(lines) >= 3 and len(log.splitlines()) == log.count("\n")
    first = lines[0]
    blank = " " if kind == "json" else "\\u0020"
    assert first["request_id"] == f"req-a{blank}b{blank}200{blank}in=0"
    assert str(first["status"]) == "200"
    if kind == "json":
        assert first["user"] == FORGED


def test_healthchecks_are_logged_at_debug(tmp_path: Path) -> None:
    with running(tmp_path, {"logging": {"level": "debug"}}) as service:
        service.client.get("/healthcheck")
    assert " GET /healthcheck 200 " in service.log.read_text()


def test_healthcheck(tmp_path: Path) -> None:
    down = tmp_path / "down"
    with running(tmp_path, {"healthcheck": {"disable_by_file": str(down)}}) as service:
        client = service.client
        reply = client.get("/healthcheck")
        assert (reply.status, reply.body) == (200, b"OK")
        down.touch()
        reply = client.get("/healthcheck")
        assert (reply.status, reply.body) == (503, b"DISABLED BY FILE")
        assert readiness(client) == (503, ["disabled by file"])
        assert client.get("/v2/images").status == 200
        down.unlink()
        assert client.get("/healthcheck").status == 200
        assert readiness(client) == (200, [])
