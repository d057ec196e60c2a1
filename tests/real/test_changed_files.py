"""A changed file of the operator counts for the very next request, on a connection that stays."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from imgservice.auth.tokens import create
from tests.real.accounts import USERS, basic, write, write_htpasswd, write_users
from tests.real.client import read_reply
from tests.real.roles import identity, trusting
from tests.real.service import Service, running

ROUNDS = 12
Ask = Callable[[], int]
UNLIMITED = {"limits": {"rate": {"address": {"exempt": ["127.0.0.1"]}}}}
PROTECTIONS = "[.*]\ncreate = {0}\nread = {0}\nupdate = {0}\ndelete = {0}\n"


@contextmanager
def asking(service: Service, path: str, headers: Mapping[str, str]) -> Iterator[Ask]:
    """Give what sends the same request again on the same connection, and returns the status."""
    with closing(HTTPConnection("127.0.0.1", service.port)) as connection:

        def ask() -> int:
            connection.request("GET", path, headers=dict(headers))
            return read_reply(connection.getresponse()).status

        yield ask


def assert_seen_at_once(ask: Ask, change: Callable[[bool], Any], yes: int, no: int) -> None:
    """Let the file say yes and no in turns, each time with one request."""
    for _ in range(ROUNDS):
        change(False)
        assert ask() == no
        change(True)
        assert ask() == yes


def rewriting(put: Callable[[Path, str], None], file: Path, yes: str, no: str) -> Any:
    return lambda is_yes: put(file, yes if is_yes else no)


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a policy file, a folder of them, and protected properties."""
    folder = tmp_path_factory.mktemp("ruled")
    (folder / "policy.d").mkdir()
    (folder / "policy.yaml").write_text("{}")
    (folder / "protections").write_text(PROTECTIONS.format("@"))
    policy = {
        "file": str(folder / "policy.yaml"),
        "dirs": [str(folder / "policy.d")],
        "property_protections": {"file": str(folder / "protections")},
    }
    with trusting(folder, policy=policy, **UNLIMITED) as service:
        yield service


@pytest.mark.parametrize("put", [in_place, write])
@pytest.mark.parametrize("name", ["policy.yaml", "policy.d/own.yaml"])
def test_policies(ruled: Service, name: str, put: Callable[[Path, str], None]) -> None:
    file = ruled.directory / name
    with asking(ruled, "/v2/images", identity("ours", "member,reader")) as ask:
        assert ask() == 200
        assert_seen_at_once(
            ask, rewriting(put, file, "get_images: '@'", "get_images: '!'"), 200, 403
        )
    put(file, "{}")


def test_files_that_come_and_go(ruled: Service) -> None:
    file = ruled.directory / "policy.d/fickle.yaml"

    def change(yes: bool) -> None:
        file.unlink(missing_ok=True) if yes else file.write_text("get_images: '!'")

    with asking(ruled, "/v2/images", identity("ours", "member,reader")) as ask:
        assert_seen_at_once(ask, change, 200, 403)


@pytest.mark.parametrize("put", [in_place, write])
def test_property_protections(ruled: Service, put: Callable[[Path, str], None]) -> None:
    file = ruled.directory / "protections"
    headers = identity("ours", "member,reader")
    with closing(HTTPConnection("127.0.0.1", ruled.port)) as connection:

        def ask() -> int:
            connection.request("POST", "/v2/images", b'{"colour": "red"}', headers)
            return read_reply(connection.getresponse()).status

        assert ask() == 201
        assert_seen_at_once(
            ask, rewriting(put, file, PROTECTIONS.format("@"), PROTECTIONS.format("!")), 201, 403
        )


def test_described_properties(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    number, word = '{"cores": {"type": "integer"}}', '{"cores": {"type": "string"}}'
    file.write_text(number)
    headers = identity("ours", "member,reader")
    options = {"api": {"schema_file": str(file)}, **UNLIMITED}
    with (
        trusting(tmp_path, **options) as service,
        closing(HTTPConnection("127.0.0.1", service.port)) as connection,
    ):

        def ask() -> int:
            connection.request("POST", "/v2/images", b'{"cores": 4}', headers)
            return read_reply(connection.getresponse()).status

        def shown(path: str) -> str:
            connection.request("GET", path, headers=headers)
            return read_reply(connection.getresponse()).body.decode()

        assert ask() == 201
        for put in (in_place, write):
            assert_seen_at_once(ask, rewriting(put, file, number, word), 201, 400)
        paths = ("/v2/schemas/image", "/v2/schemas/images", "/v2/openapi.json")
        before = [shown(path) for path in paths]
        file.write_text('{"threads": {"type": "integer"}}')
        assert [
            ("threads" in shown(path), "threads" in old)
            for path, old in zip(paths, before, strict=True)
        ] == [(True, False)] * 3
        file.write_text("{")
        assert "threads" in shown(paths[0])
        assert "keeping the previous version" in service.log.read_text()


def test_users_and_passwords(tmp_path: Path) -> None:
    htpasswd, users = tmp_path / "htpasswd", tmp_path / "users.yaml"
    write_htpasswd(htpasswd, *USERS)
    write_users(users, USERS)
    auth: Any = {"mode": "basic", "basic": {"file": str(htpasswd), "users": str(users)}}
    known, unknown = htpasswd.read_text(), htpasswd.read_text().replace("rita:", "reto:")
    roles, none = users.read_text(), users.read_text().replace("rita:", "reto:")
    with (
        running(tmp_path, {"auth": auth, **UNLIMITED}) as service,
        asking(service, "/v2/images", basic("rita")) as ask,
    ):
        assert ask() == 200
        for put in (in_place, write):
            assert_seen_at_once(ask, rewriting(put, htpasswd, known, unknown), 200, 401)
            assert_seen_at_once(ask, rewriting(put, users, roles, none), 200, 401)


def test_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    create(file, "others", "apollo", ["reader"])
    without = file.read_text()
    _, token = create(file, "ci", "apollo", ["reader"])
    known = file.read_text()
    auth = {"mode": "tokens", "tokens": {"file": str(file)}}
    with (
        running(tmp_path, {"auth": auth, **UNLIMITED}) as service,
        asking(service, "/v2/images", {"X-Auth-Token": token}) as ask,
    ):
        assert ask() == 200
        for put in (in_place, write):
            assert_seen_at_once(ask, rewriting(put, file, known, without), 200, 401)
