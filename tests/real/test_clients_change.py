"""Common clients change images, share them, and deactivate them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs
import pytest

from tests.real.client import Client
from tests.real.gateway import gateway
from tests.real.openstack import printed
from tests.real.roles import caller, trusting
from tests.real.service import Service

# What the clients warn of, files left open and old words, is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@attrs.frozen
class Gates:
    """URLs at which the client is a certain user."""

    owner: str
    other: str
    admin: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with trusting(tmp_path_factory.mktemp("clients")) as started:
        yield started


@pytest.fixture(scope="module")
def gates(service: Service) -> Iterator[Gates]:
    with ExitStack() as stack:
        yield Gates(
            stack.enter_context(gateway(service.client, "ours")),
            stack.enter_context(gateway(service.client, "theirs")),
            stack.enter_context(gateway(service.client, "ops", "admin,member,reader")),
        )


@pytest.fixture
def owner(service: Service) -> Client:
    return caller(service, "ours")


# -- the openstack command ------------------------------------------------------------------------


def openstack(url: str, *arguments: str) -> Any:
    """Run `openstack image …`; return what it prints as JSON, if it prints any."""
    said = printed({"OS_AUTH_TYPE": "none", "OS_ENDPOINT": url}, "image", *arguments)
    return json.loads(said) if said.strip() else None


def test_openstack_sets_and_unsets(gates: Gates, owner: Client) -> None:
    image_id = owner.create(name="before", tags=["old"])
    fields = ["--name", "after", "--property", "os_distro=debian", "--property", "k=v"]
    fields += ["--tag", "new", "--community", "--protected", "--min-disk", "3", "--min-ram", "64"]
    openstack(gates.owner, "set", *fields, "--hidden", image_id)
    image = owner.show(image_id)
    expected: dict[str, Any] = {
        "name": "after",
        "os_distro": "debian",
        "k": "v",
        "visibility": "community",
    }
    expected |= {"protected": True, "min_disk": 3, "min_ram": 64, "os_hidden": True}
    assert {name: image[name] for name in expected} == expected
    assert image["tags"] == ["new", "old"]
    openstack(gates.owner, "unset", "--tag", "old", "--property", "k", image_id)
    image = owner.show(image_id)
    assert image["tags"] == ["new"] and "k" not in image and image["os_distro"] == "debian"
    openstack(gates.owner, "set", "--unprotected", "--unhidden", "--private", image_id)
    openstack(gates.owner, "delete", image_id)


def test_openstack_shares(gates: Gates, owner: Client) -> None:
    image_id = owner.create(name="offered")
    added = openstack(gates.owner, "add", "project", image_id, "theirs", "-f", "json")
    assert added["status"] == "pending" and added["member_id"] == "theirs"
    listed = openstack(gates.owner, "member", "list", image_id, "-f", "json")
    assert listed == [{"Image ID": image_id, "Member ID": "theirs", "Status": "pending"}]
    openstack(gates.other, "set", "--accept", "--project", "theirs", image_id)
    found = openstack(gates.other, "list", "--shared", "-f", "json")
    assert [image["ID"] for image in found] == [image_id]
    openstack(gates.owner, "remove", "project", image_id, "theirs")
    assert openstack(gates.other, "list", "--shared", "-f", "json") == []


def test_openstack_switches_off_and_on(gates: Gates, owner: Client) -> None:
    image_id = owner.active(b"abc")
    openstack(gates.owner, "set", "--deactivate", image_id)
    assert owner.show(image_id)["status"] == "deactivated"
    openstack(gates.owner, "set", "--activate", image_id)
    assert owner.show(image_id)["status"] == "active"


@pytest.mark.parametrize(
    "filters",
    [
        ["--name", "listed"],
        ["--property", "os_distro=listed"],
        ["--tag", "listed"],
        ["--tag", "listed", "--tag", "twice"],
        ["--private", "--status", "queued", "--tag", "listed"],
        ["--sort", "name:asc", "--tag", "listed", "--limit", "5"],
        ["--hidden", "--tag", "listed"],
    ],
    ids=lambda filters: " ".join(filters),
)
def test_openstack_lists(gates: Gates, owner: Client, filters: list[str]) -> None:
    fields: dict[str, Any] = {"name": "listed", "os_distro": "listed", "tags": ["listed", "twice"]}
    hidden = "--hidden" in filters
    image_id = owner.create(**fields, visibility="private", os_hidden=hidden)
    owner.create(name="another", visibility="private", os_hidden=hidden)
    found = openstack(gates.owner, "list", *filters, "-f", "json")
    assert [image["ID"] for image in found] == [image_id]
    assert owner.delete(f"/v2/images/{image_id}").status == 204


# -- openstacksdk ---------------------------------------------------------------------------------


@contextmanager
def sdk(url: str) -> Iterator[Any]:
    import openstack

    connection = openstack.connect(auth_type="none", endpoint=url)
    try:
        yield connection.image
    finally:
        connection.session.session.close()
        connection.close()


def test_sdk(gates: Gates, owner: Client) -> None:
    image_id = owner.active(b"abc", name="before", k="v")
    with sdk(gates.owner) as ours, sdk(gates.other) as theirs:
        changed = ours.update_image(image_id, name="after", k="w", min_ram=5)
        assert (changed.name, changed.properties["k"], changed.min_ram) == ("after", "w", 5)
        ours.add_tag(image_id, "a tag")
        assert ours.get_image(image_id).tags == ["a tag"]
        ours.remove_tag(image_id, "a tag")
        assert ours.get_image(image_id).tags == []
        ours.deactivate_image(image_id)
        assert ours.get_image(image_id).status == "deactivated"
        ours.reactivate_image(image_id)
        ours.add_member(image_id, member_id="theirs")
        theirs.update_member("theirs", image_id, status="accepted")
        assert [image.id for image in theirs.images(visibility="shared")] == [image_id]
        assert [member.status for member in ours.members(image_id)] == ["accepted"]
        assert ours.get_member("theirs", image_id).member_id == "theirs"
        ours.remove_member("theirs", image_id, ignore_missing=False)
        assert list(ours.members(image_id)) == []
        ours.delete_image(image_id, ignore_missing=False)


# -- python-glanceclient --------------------------------------------------------------------------


@contextmanager
def glance(url: str) -> Iterator[Any]:
    from glanceclient import Client as GlanceClient

    client = GlanceClient("2", endpoint=url, token="none")
    try:
        yield client
    finally:
        client.http_client.session.close()


def test_glanceclient(gates: Gates, owner: Client) -> None:
    image_id = owner.active(b"abc", name="before", drop="x", keep="y")
    with glance(gates.owner) as ours, glance(gates.other) as theirs:
        changed = ours.images.update(image_id, remove_props=["drop"], name="after", keep="z")
        assert (changed["name"], changed["keep"]) == ("after", "z") and "drop" not in changed
        ours.image_tags.update(image_id, "t")
        assert ours.images.get(image_id)["tags"] == ["t"]
        ours.image_tags.delete(image_id, "t")
        ours.images.deactivate(image_id)
        assert ours.images.get(image_id)["status"] == "deactivated"
        ours.images.reactivate(image_id)
        assert ours.image_members.create(image_id, "theirs")["status"] == "pending"
        assert theirs.image_members.update(image_id, "theirs", "rejected")["status"] == "rejected"
        [member] = ours.image_members.list(image_id)
        assert (member["member_id"], member["status"]) == ("theirs", "rejected")
        assert ours.image_members.get(image_id, "theirs")["status"] == "rejected"
        ours.image_members.delete(image_id, "theirs")
        assert list(ours.image_members.list(image_id)) == []
        ours.images.delete(image_id)
