"""The mode `basic`: users and passwords of an htpasswd file."""

import base64
import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from threading import Event

import attrs
import pytest

from tests.real.accounts import (
    USERS,
    assert_silent,
    basic,
    password,
    refusal,
    until_status,
    user,
    write,
    write_htpasswd,
    write_users,
)
from tests.real.client import Client, Reply, receive
from tests.real.openstack import openstack, printed
from tests.real.service import Service, missing, running, wait_until

CHALLENGE = 'Basic realm="imgservice", charset="UTF-8"'


@attrs.frozen
class Files:
    htpasswd: Path
    users: Path

    @classmethod
    def make(cls, directory: Path, cost: int = 4) -> "Files":
        files = cls(directory / "htpasswd", directory / "users.yaml")
        write_htpasswd(files.htpasswd, *USERS, cost=cost)
        write_users(files.users, USERS)
        return files

    def options(self, **more: object) -> dict[str, object]:
        auth = {"file": str(self.htpasswd), "users": str(self.users)}
        return {"auth": {"mode": "basic", "basic": auth, **more}, "logging": {"level": "debug"}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files.make(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("basic"), files.options()) as started:
        yield started
        hashes = [line.partition(":")[2] for line in files.htpasswd.read_text().split()]
        secrets = [password(name) for name in USERS]
        encoded = [f"{name}:{password(name)}" for name in USERS]
        assert_silent(started, *secrets, *encoded, *hashes, "wrong password")


# -- who may what ---------------------------------------------------------------------------------


def test_users_have_their_projects_and_roles(service: Service) -> None:
    alice, rita, otto, root = (user(service, name) for name in USERS)
    image_id = alice.active(b"data", visibility="private")
    assert alice.show(image_id)["owner"] == "apollo"
    path = f"/v2/images/{image_id}"
    assert [one.get(path).status for one in (alice, rita, otto, root)] == [200, 200, 404, 200]
    refused = rita.post("/v2/images", {"name": "x"})
    assert refused.status == 403, refused
    assert [one.delete(path).status for one in (rita, otto, root)] == [403, 404, 204]


def test_nobody_gets_in(service: Service) -> None:
    reply = service.client.get("/v2/images")
    assert (reply.status, reply.headers["www-authenticate"]) == (401, CHALLENGE)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("alice", "wrong password"),
        ("alice", ""),
        ("alice", password("rita")),
        ("alice", password("alice") + " "),
        ("alice", password("alice")[:-1]),
        ("Alice", password("alice")),
        ("mallory", password("alice")),
        ("alice ", password("alice")),
    ],
)
def test_wrong_credentials(service: Service, name: str, secret: str) -> None:
    for _ in range(2):
        reply = service.client.get("/v2/images", **basic(name, secret))
        assert (reply.status, reply.headers["www-authenticate"]) == (401, CHALLENGE)
        assert password("alice").encode() not in reply.body


def encoded(raw: bytes) -> str:
    return "Basic " + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic ",
        "Basic =",
        "Basic a",
        "Basic !!!!",
        "Basic YWxpY2U",
        encoded(b""),
        encoded(b":"),
        encoded(b"alice"),
        encoded(b":secret"),
        encoded(b"\xff\xfe"),
        encoded(b"alice\0:x"),
        encoded(b"alice:x\n"),
        encoded(b"a" * 3000 + b":x"),
        encoded(b"alice:" + b"x" * 1000),
        "Bearer " + base64.b64encode(b"alice:x").decode(),
        "Digest username=alice",
        "basic",
        basic("alice")["Authorization"] + " x",
        basic("alice")["Authorization"] + ", " + basic("root")["Authorization"],
    ],
)
def test_malformed_credentials(service: Service, value: str) -> None:
    reply = service.client.get("/v2/images", Authorization=value)
    assert (reply.status, reply.headers["www-authenticate"]) == (401, CHALLENGE)


def test_the_scheme_is_known_however_it_is_written(service: Service) -> None:
    value = basic("alice")["Authorization"].removeprefix("Basic ")
    for scheme in ("basic", "BASIC", "bAsIc  "):
        assert service.client.get("/v2/images", Authorization=f"{scheme} {value}").status == 200


def test_latin_1(service: Service) -> None:
    raw = f"alice:{password('alice')}".encode("latin-1")
    assert service.client.get("/v2/images", Authorization=encoded(raw)).status == 200


def test_two_headers(service: Service) -> None:
    for one, other in (("alice", "alice"), ("alice", "root")):
        lines = "".join(
            f"Authorization: {basic(name)['Authorization']}\r\n" for name in (one, other)
        )
        head = f"GET /v2/images HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n"
        assert service.client.exchange(head.encode()).status == 401


def test_a_huge_header(service: Service) -> None:
    reply = service.client.get("/v2/images", Authorization="Basic " + "A" * 60_000)
    assert reply.status == 431
    assert user(service, "alice").get("/v2/images").status == 200


def test_other_proofs_do_not_count(service: Service) -> None:
    told = {"X-Identity-Status": "Confirmed", "X-User-Id": "root", "X-Roles": "admin"}
    assert service.client.get("/v2/images", **told).status == 401
    assert service.client.get("/v2/images", X_Auth_Token="root").status == 401
    rita = user(service, "rita")
    assert rita.request("POST", "/v2/images", b"{}", told).status == 403


def test_a_refused_upload_is_not_read(service: Service) -> None:
    image_id = user(service, "alice").create()
    head = (
        f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n"
        f"Authorization: {basic('alice', 'wrong password')['Authorization']}\r\n\r\n"
    )
    with service.client.connect() as connection:
        connection.sendall(head.encode())
        assert receive(connection).status == 401
    assert user(service, "alice").show(image_id)["status"] == "queued"


# -- files that change ----------------------------------------------------------------------------


def test_files_are_read_again(tmp_path: Path) -> None:
    files = Files.make(tmp_path)
    with running(tmp_path, files.options()) as service:
        alice, rita = user(service, "alice"), user(service, "rita")
        assert alice.get("/v2/images").status == 200
        image_id = alice.create()
        write_htpasswd(files.htpasswd, "rita", "root")
        until_status(alice, 401)
        assert rita.delete(f"/v2/images/{image_id}").status == 403
        write_users(files.users, {**USERS, "rita": USERS["alice"]})
        wait_until(lambda: rita.delete(f"/v2/images/{image_id}").status == 204)
        write_users(files.users, {name: USERS[name] for name in ("alice", "root")})
        until_status(rita, 401)
        write_htpasswd(files.htpasswd, "alice", "root")
        until_status(alice, 200)
        write(files.htpasswd, "alice:plain text\n")
        wait_until(lambda: "keeping the previous version" in _poked(service, alice))
        assert f"{files.htpasswd}:1: the hash of 'alice'" in service.log.read_text()
        assert "plain text" not in service.log.read_text()
        files.htpasswd.unlink()
        time.sleep(1.5)
        assert alice.get("/v2/images").status == 200
        write_htpasswd(files.htpasswd, "root")
        until_status(alice, 401)


def _poked(service: Service, client: Client) -> str:
    client.get("/v2/images")
    return service.log.read_text()


def test_files_change_under_load(tmp_path: Path) -> None:
    """Who stays is let in every time, and who comes and goes is never let in with less."""
    files, over = Files.make(tmp_path), Event()
    unlimited = {"limits": {"rate": {"address": {"exempt": ["127.0.0.1"]}}}}
    with running(tmp_path, {**files.options(), **unlimited}) as service:
        alice, otto = user(service, "alice"), user(service, "otto")

        def asks(client: Client) -> set[int]:
            found = set()
            while not over.is_set():
                found.add(client.get("/v2/images").status)
            return found

        with ThreadPoolExecutor(4) as pool:
            steady = [pool.submit(asks, alice) for _ in range(2)]
            fickle = pool.submit(asks, otto)
            try:
                for turn in range(6):
                    there = turn % 2 == 1
                    write_htpasswd(files.htpasswd, "alice", "root", *(["otto"] if there else []))
                    write_users(files.users, {**USERS, f"new{turn}": USERS["otto"]})
                    until_status(otto, 200 if there else 401)
            finally:
                over.set()
        assert [one.result() for one in steady] == [{200}, {200}]
        assert fickle.result() == {200, 401}


def test_without_a_file_of_users(tmp_path: Path) -> None:
    files = Files.make(tmp_path)
    options = {"auth": {"mode": "basic", "basic": {"file": str(files.htpasswd)}}}
    with running(tmp_path, options) as service:
        image_id = user(service, "alice").create()
        assert user(service, "alice").show(image_id)["owner"] == "alice"
        assert user(service, "rita").get(f"/v2/images/{image_id}").status == 404
        assert user(service, "root").get(f"/v2/images/{image_id}").status == 404


# -- guessing -------------------------------------------------------------------------------------


def test_guessing_does_not_stall_the_others(tmp_path: Path) -> None:
    """Passwords are hashed elsewhere; who has got in is served meanwhile."""
    files = Files.make(tmp_path, cost=10)
    with running(tmp_path, files.options()) as service:
        alice = user(service, "alice")
        assert alice.get("/v2/images").status == 200

        def timed(ask: Callable[[], Reply]) -> tuple[int, float]:
            started = time.monotonic()
            return ask().status, time.monotonic() - started

        def guess(number: int) -> tuple[int, float]:
            name = random.Random(number).choice(["alice", "rita", "nobody"])
            wrong = basic(name, f"guess {number}")
            return timed(lambda: service.client.get("/v2/images", **wrong))

        with ThreadPoolExecutor(48) as pool:
            guesses = [pool.submit(guess, number) for number in range(60)]
            took = []
            while not all(one.done() for one in guesses):
                status, seconds = timed(lambda: alice.get("/v2/images"))
                assert status in (200, 429)
                took.append(seconds)
                time.sleep(0.01)
            answers = [one.result() for one in guesses]
        assert {401} <= {status for status, _ in answers} <= {401, 429, 503}
        guessing = [seconds for status, seconds in answers if status == 401]
        assert median(took) < median(guessing) / 2
        wait_until(lambda: user(service, "root").get("/v2/images").status == 200)


# -- clients --------------------------------------------------------------------------------------


def test_openstack_command(service: Service) -> None:
    image_id = user(service, "alice").create(name="for the command")
    environment = {
        "OS_AUTH_TYPE": "http_basic",
        "OS_ENDPOINT": f"{service.client.url}/v2",
        "OS_USERNAME": "alice",
        "OS_PASSWORD": password("alice"),
    }
    shown = printed(environment, "image", "show", image_id, "-f", "json")
    assert json.loads(shown)["owner"] == "apollo"
    wrong = openstack({**environment, "OS_PASSWORD": "wrong password"}, "image", "list")
    assert wrong.returncode != 0 and "401" in wrong.stderr


def test_clouds_yaml(service: Service, tmp_path: Path) -> None:
    auth = {
        "endpoint": f"{service.client.url}/v2",
        "username": "otto",
        "password": password("otto"),
    }
    clouds = tmp_path / "clouds.yaml"
    write(clouds, json.dumps({"clouds": {"images": {"auth_type": "http_basic", "auth": auth}}}))
    environment = {"OS_CLIENT_CONFIG_FILE": str(clouds), "OS_CLOUD": "images"}
    made = printed(environment, "image", "create", "from the cloud", "-f", "json")
    assert json.loads(made)["owner"] == "gemini"


@pytest.mark.filterwarnings("ignore")
def test_openstacksdk(service: Service) -> None:
    from openstack import connect

    connection = connect(
        auth_type="http_basic",
        auth={
            "endpoint": f"{service.client.url}/v2",
            "username": "otto",
            "password": password("otto"),
        },
    )
    try:
        image = connection.image.create_image(
            "sdk", data=b"data", disk_format="raw", container_format="bare"
        )
        assert connection.image.get_image(image.id).owner == "gemini"
        assert connection.image.download_image(image.id).content == b"data"
    finally:
        connection.session.session.close()
        connection.close()


def test_curl(service: Service) -> None:
    program = shutil.which("curl")
    if program is None:
        missing("there is no curl; tests/install-packages installs it")
    command = [program, "-sS", "-w", "%{http_code}", "-o", "/dev/null"]
    command += [f"{service.client.url}/v2/images", "-u"]
    for name, secret, status in (("alice", password("alice"), "200"), ("alice", "x", "401")):
        done = subprocess.run([*command, f"{name}:{secret}"], capture_output=True, timeout=120)
        assert done.stdout.decode() == status


def test_htpasswd_program(tmp_path: Path) -> None:
    """What `htpasswd` makes and changes is understood, also with its own low cost."""
    program = shutil.which("htpasswd")
    if program is None:
        missing("there is no htpasswd; tests/install-packages installs it")
    files = Files.make(tmp_path)

    def set_password(*options: str, name: str, secret: str) -> None:
        command = [program, *options, str(files.htpasswd), name, secret]
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    set_password("-B", "-b", name="alice", secret="first")
    with running(tmp_path, files.options()) as service:
        for name, secret in (("alice", "first"), ("rita", password("rita"))):
            assert service.client.get("/v2/images", **basic(name, secret)).status == 200
        set_password("-B", "-b", "-C", "10", name="alice", secret="second")
        until_status(attrs.evolve(service.client, headers=basic("alice", "second")), 200)
        assert service.client.get("/v2/images", **basic("alice", "first")).status == 401


# -- what must not start --------------------------------------------------------------------------


def test_what_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    files = Files.make(tmp_path)
    files.htpasswd.write_text("alice:sesame\n")
    refused = Service(tmp_path, files.options())
    with pytest.raises(AssertionError, match=f"{files.htpasswd}:1: the hash of 'alice'"):
        refused.start()
    refused.end()


def test_what_is_told_of_what_cannot_be_used(tmp_path: Path) -> None:
    files = Files.make(tmp_path)
    files.htpasswd.write_text("# old\nalice:$apr1$4iAdOaTP$4uH9mFYpXPQqsPHQMxLm21\n")
    said = refusal(tmp_path, files.options())
    assert "auth.basic.file: " in said and f"{files.htpasswd}:2: " in said and "MD5" in said
    assert "4uH9" not in said and "refused.yaml:" in said
    write_htpasswd(files.htpasswd, "alice")
    files.users.write_text("alice: {project: apollo}")
    assert f"auth.basic.users: {files.users}:1: 'alice' has no roles" in refusal(
        tmp_path, files.options()
    )
    assert "auth.basic.file: is needed by auth.mode basic" in refusal(
        tmp_path, {"auth": {"mode": "basic"}}
    )


def test_passwords_do_not_travel_in_the_clear(tmp_path: Path) -> None:
    files = Files.make(tmp_path)
    options = {**files.options(), "server": {"listen": ["tcp:0"]}}
    said = refusal(tmp_path, options)
    assert "server.listen[0]" in said and "auth.clear_text: true" in said
