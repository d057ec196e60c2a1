"""Every client shows its user why a request was refused, in the words of the service."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from tests.real.openstack import openstack
from tests.real.service import Service, running

FAKE = b"this is no qcow2" * 1000
LARGE = bytes(20_001)
NOWHERE = "11111111-2222-3333-4444-555555555555"

# What the clients warn of, files left open and old words, is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@attrs.frozen
class World:
    """A service, and files with data that it refuses."""

    service: Service
    folder: Path

    def file(self, data: bytes) -> str:
        path = self.folder / f"data-{len(data)}"
        path.write_bytes(data)
        return str(path)

    def clouds(self) -> Path:
        """Return a configuration of clients that do not ask again after a 503."""
        cloud = {
            "auth_type": "none",
            "auth": {"endpoint": self.service.client.url},
            "image_status_code_retries": 0,
        }
        path = self.folder / "clouds.yaml"
        path.write_text(yaml.safe_dump({"clouds": {"here": cloud}}))
        return path

    @contextmanager
    def without_store(self) -> Iterator[None]:
        away = self.service.store.with_name("away")
        self.service.store.rename(away)
        try:
            yield
        finally:
            away.rename(self.service.store)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    options = {"limits": {"image_size": 20_000}}
    with running(tmp_path_factory.mktemp("reasons"), options) as service:
        yield World(service, tmp_path_factory.mktemp("reasons-files"))


@attrs.frozen(eq=False)
class Refusal:
    status: int
    reason: str
    """Words of the service's, in which {id} stands for the image."""
    fields: dict[str, Any] = attrs.field(factory=dict)
    """Of the image that is asked for."""
    data: bytes = b""
    away: bool = False
    """Whether the directory of the store is gone meanwhile."""


NO_FORMAT = Refusal(400, "must be set prior to saving data", {"disk_format": None}, b"x")
BAD_NUMBER = Refusal(400, "min_ram")
PROTECTED = Refusal(403, "Image {id} is protected", {"protected": True})
UNKNOWN = Refusal(404, f"No image found with ID {NOWHERE}")
NO_MEMBER = Refusal(404, "nobody not found in the member list of the image {id}")
TAKEN = Refusal(409, "Image ID {id} already exists!")
TOO_LARGE = Refusal(413, "20000", data=LARGE)
MISMATCH = Refusal(415, "qcow2 does not match", {"disk_format": "qcow2"}, FAKE)
STORE_GONE = Refusal(503, "Store local", data=b"x", away=True)

Show = Callable[[World, Refusal, str], str]
"""Asks for what is refused; returns what the user sees."""


def told(world: World, refusal: Refusal, show: Show) -> None:
    """See that the user is told the reason, and no markup."""
    image_id = world.service.client.create(**{"visibility": "shared", **refusal.fields})
    if refusal.away:
        with world.without_store():
            shown = show(world, refusal, image_id)
    else:
        shown = show(world, refusal, image_id)
    assert refusal.reason.format(id=image_id) in " ".join(shown.split()), shown
    assert "<" not in shown


# -- the openstack command ------------------------------------------------------------------------


def by_command(world: World, refusal: Refusal, image_id: str) -> str:
    formats = ["--disk-format", str(refusal.fields.get("disk_format", "raw"))]
    arguments = {
        BAD_NUMBER: ["create", "--min-ram", "-1", "x"],
        PROTECTED: ["delete", image_id],
        TAKEN: ["create", "--id", image_id, "x"],
    }.get(refusal) or ["create", *formats, "--file", world.file(refusal.data), "x"]
    environment = {"OS_CLOUD": "here", "OS_CLIENT_CONFIG_FILE": str(world.clouds())}
    done = openstack(environment, "image", *arguments)
    assert done.returncode != 0
    assert f"{refusal.status}: " in done.stderr
    return done.stderr


# What it does not find itself, it does not ask for: no 404 is ours.
COMMANDS = [BAD_NUMBER, PROTECTED, TAKEN, TOO_LARGE, MISMATCH, STORE_GONE]


@pytest.mark.parametrize("refusal", COMMANDS, ids=lambda one: one.status)
def test_openstack_prints_the_reason(world: World, refusal: Refusal) -> None:
    told(world, refusal, by_command)


# -- openstacksdk ---------------------------------------------------------------------------------


def by_sdk(world: World, refusal: Refusal, image_id: str) -> str:
    import openstack

    url = world.service.client.url
    connection = openstack.connect(auth_type="none", endpoint=url, image_status_code_retries=0)
    images = connection.image
    asking: dict[Refusal, Callable[[], Any]] = {
        BAD_NUMBER: lambda: images.update_image(image_id, min_ram=-1),
        PROTECTED: lambda: images.delete_image(image_id),
        UNKNOWN: lambda: images.get_image(NOWHERE),
        NO_MEMBER: lambda: images.remove_member("nobody", image_id, ignore_missing=False),
        TAKEN: lambda: images.create_image("x", id=image_id),
    }
    ask = asking.get(refusal) or (
        lambda: images.create_image(
            "x",
            data=BytesIO(refusal.data),
            disk_format=refusal.fields.get("disk_format", "raw"),
            container_format="bare",
        )
    )
    try:
        with pytest.raises(openstack.exceptions.HttpException) as raised:
            ask()
    finally:
        connection.session.session.close()
        connection.close()
    assert raised.value.status_code == refusal.status
    return f"{raised.value.status_code} {raised.value}"


@pytest.mark.parametrize("refusal", [*COMMANDS, UNKNOWN, NO_MEMBER], ids=lambda one: one.status)
def test_sdk_tells_the_reason(world: World, refusal: Refusal) -> None:
    told(world, refusal, by_sdk)


# -- python-glanceclient --------------------------------------------------------------------------


def by_glanceclient(world: World, refusal: Refusal, image_id: str) -> str:
    from glanceclient import Client
    from glanceclient.exc import HTTPException

    client = Client("2", endpoint=world.service.client.url, token="none")
    asking: dict[Refusal, Callable[[], Any]] = {
        PROTECTED: lambda: client.images.delete(image_id),
        UNKNOWN: lambda: client.images.get(NOWHERE),
        NO_MEMBER: lambda: client.image_members.delete(image_id, "nobody"),
        TAKEN: lambda: client.images.create(id=image_id, name="x"),
    }
    ask = asking.get(refusal) or (lambda: client.images.upload(image_id, BytesIO(refusal.data)))
    try:
        with pytest.raises(HTTPException) as raised:
            ask()
    finally:
        client.http_client.session.close()
    return str(raised.value)


GLANCE = [NO_FORMAT, PROTECTED, UNKNOWN, NO_MEMBER, TAKEN, TOO_LARGE, MISMATCH, STORE_GONE]


@pytest.mark.parametrize("refusal", GLANCE, ids=lambda one: one.status)
def test_glanceclient_tells_the_reason(world: World, refusal: Refusal) -> None:
    told(world, refusal, by_glanceclient)


# -- keystoneauth, of which nova, cinder and many programs are made -------------------------------


def test_keystoneauth_tells_the_reason(world: World) -> None:
    from keystoneauth1.exceptions import NotFound
    from keystoneauth1.noauth import NoAuth
    from keystoneauth1.session import Session

    session = Session(NoAuth())
    with pytest.raises(NotFound) as raised:
        session.get(f"{world.service.client.url}/v2/images/{NOWHERE}")
    session.session.close()
    assert str(raised.value).startswith(f"{UNKNOWN.reason} (HTTP 404)")
