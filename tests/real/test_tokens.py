"""The mode `tokens`: static tokens that `imgservice token` makes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from imgservice.auth.tokens import create, revoke
from tests.real.accounts import assert_silent, refusal, until_status, write
from tests.real.client import Client
from tests.real.openstack import openstack, printed
from tests.real.service import Service, running, wait_until

CHALLENGE = 'Bearer realm="imgservice"'


@attrs.frozen
class Held:
    """A service, the file of its tokens, and two of them."""

    service: Service
    file: Path
    member: str
    admin: str

    def get(self, **headers: str) -> int:
        return self.service.client.get("/v2/images", **headers).status


def options(file: Path, **more: Any) -> dict[str, Any]:
    return {
        "auth": {"mode": "tokens", "tokens": {"file": str(file)}, **more},
        "logging": {"level": "debug"},
    }


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    directory = tmp_path_factory.mktemp("tokens")
    file = directory / "tokens"
    _, member = create(file, "ci", "apollo", ["Member"])
    _, admin = create(file, "ops", "ops", ["admin"])
    with running(directory, options(file)) as service:
        yield Held(service, file, member, admin)
        hashes = [json.loads(line)["sha256"] for line in file.read_text().split("\n")[1:-1]]
        assert_silent(service, member, admin, *hashes, "imgsvc-wrong")


def holder(service: Service, token: str) -> Client:
    return attrs.evolve(service.client, headers={"X-Auth-Token": token})


def test_tokens_have_their_projects_and_roles(held: Held) -> None:
    member, admin = holder(held.service, held.member), holder(held.service, held.admin)
    # A member reads, too: the token names that role alone.
    image_id = member.active(b"data", visibility="private")
    assert member.show(image_id)["owner"] == "apollo"
    assert member.request("PATCH", f"/v2/images/{image_id}", b"[]").status in (400, 415)
    assert admin.delete(f"/v2/images/{image_id}").status == 204


def test_both_headers(held: Held) -> None:
    assert held.get(X_Auth_Token=held.member) == 200
    assert held.get(Authorization=f"Bearer {held.member}") == 200
    assert held.get(Authorization=f"bearer  {held.member}") == 200
    assert held.get(X_Auth_Token=held.member, Authorization=f"Bearer {held.member}") == 200
    assert held.get(X_Auth_Token=held.member, Authorization=f"Bearer {held.admin}") == 401
    assert held.get(X_Auth_Token=held.member, Authorization="Basic YTpi") == 401
    assert held.get(X_Auth_Token="imgsvc-wrong", Authorization=f"Bearer {held.admin}") == 401


def test_nobody_gets_in(held: Held) -> None:
    reply = held.service.client.get("/v2/images")
    assert (reply.status, reply.headers["www-authenticate"]) == (401, CHALLENGE)


@pytest.mark.parametrize(
    "value", ["", "imgsvc-wrong", "imgsvc-", "a,b", "ÿ".encode().decode("latin-1"), "x" * 8000]
)
def test_wrong_tokens(held: Held, value: str) -> None:
    for name in ("X-Auth-Token", "Authorization"):
        sent = f"Bearer {value}" if name == "Authorization" else value
        reply = held.service.client.get("/v2/images", **{name: sent})
        assert (reply.status, reply.headers["www-authenticate"]) == (401, CHALLENGE)
        assert value.encode("latin-1") not in reply.body or not value


@pytest.mark.parametrize("change", [str.upper, str.swapcase, lambda text: text[:-1], "{}=".format])
def test_almost_a_token(held: Held, change: Any) -> None:
    assert held.get(X_Auth_Token=change(held.member)) == 401


def test_hashes_are_no_tokens(held: Held) -> None:
    for line in held.file.read_text().split("\n")[1:-1]:
        assert held.get(X_Auth_Token=json.loads(line)["sha256"]) == 401


def test_two_headers_of_a_kind(held: Held) -> None:
    for lines in (
        f"X-Auth-Token: {held.member}\r\nX-Auth-Token: {held.member}\r\n",
        f"X-Auth-Token: {held.member}\r\nX-Auth-Token: {held.admin}\r\n",
        f"Authorization: Bearer {held.member}\r\nAuthorization: Bearer {held.admin}\r\n",
    ):
        head = f"GET /v2/images HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n"
        assert held.service.client.exchange(head.encode()).status == 401


def test_the_file_is_read_again(held: Held) -> None:
    made, text = create(held.file, "new", "gemini", ["reader"])
    client = holder(held.service, text)
    until_status(client, 200)
    assert client.post("/v2/images", {}).status == 403
    revoke(held.file, made.id)
    until_status(client, 401)


def test_expiry_needs_no_change_of_the_file(held: Held) -> None:
    _, text = create(held.file, "brief", "gemini", ["reader"], lifetime=10)
    client = holder(held.service, text)
    until_status(client, 200)
    until_status(client, 401)


def test_a_broken_file_takes_nothing_away(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    _, text = create(file, "ci", "apollo", ["reader"])
    with running(tmp_path, options(file)) as service:
        client, good = holder(service, text), file.read_text()
        write(file, good + "{half a li")
        wait_until(lambda: _complains(service, client))
        assert client.get("/v2/images").status == 200
        assert f"{file}:3: not valid JSON" in service.log.read_text()
        write(file, "")
        until_status(client, 401)


def _complains(service: Service, client: Client) -> bool:
    client.get("/v2/images")
    return "keeping the previous version" in service.log.read_text()


def test_openstack_command(held: Held) -> None:
    environment = {
        "OS_AUTH_TYPE": "admin_token",
        "OS_ENDPOINT": f"{held.service.client.url}/v2",
        "OS_TOKEN": held.member,
    }
    created = printed(environment, "image", "create", "from the command", "-f", "json")
    assert json.loads(created)["owner"] == "apollo"
    wrong = openstack({**environment, "OS_TOKEN": "imgsvc-wrong"}, "image", "list")
    assert wrong.returncode != 0 and "401" in wrong.stderr


@pytest.mark.filterwarnings("ignore")
def test_openstacksdk(held: Held) -> None:
    from openstack import connect

    connection = connect(
        auth_type="admin_token",
        auth={"endpoint": f"{held.service.client.url}/v2", "token": held.member},
    )
    try:
        image = connection.image.create_image(
            "sdk", data=b"data", disk_format="raw", container_format="bare"
        )
        assert connection.image.get_image(image.id).owner == "apollo"
    finally:
        connection.session.session.close()
        connection.close()


def test_what_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    said = refusal(tmp_path, options(file))
    assert f"auth.tokens.file: {file}: cannot be read: No such file" in said
    assert "auth.tokens.file: is needed by auth.mode tokens" in refusal(
        tmp_path, {"auth": {"mode": "tokens"}}
    )
    create(file, "ci", "apollo", ["reader"])
    exposed = {**options(file), "server": {"listen": ["tcp:0"]}}
    assert "auth.clear_text: true" in refusal(tmp_path, exposed)
