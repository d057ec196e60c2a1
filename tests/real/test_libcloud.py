"""Apache Libcloud's OpenStack driver, which knows no Keystone here: images and their members."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.client import Client
from tests.real.gateway import gateway
from tests.real.roles import caller, trusting
from tests.real.service import Service

# What it warns of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

PAGE = 4


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    # It never says how long a page shall be.
    with trusting(tmp_path_factory.mktemp("libcloud"), api={"page_default": PAGE}) as started:
        yield started


@pytest.fixture
def owner(service: Service) -> Client:
    return caller(service, "ours")


@pytest.fixture(scope="module")
def listing(service: Service) -> Iterator[Any]:
    """A project without images."""
    with gateway(service.client, "listing") as url:
        yield libcloud(url)


@pytest.fixture(scope="module")
def ours(service: Service) -> Iterator[Any]:
    with gateway(service.client, "ours") as url:
        yield libcloud(url)


@pytest.fixture(scope="module")
def theirs(service: Service) -> Iterator[Any]:
    with gateway(service.client, "theirs") as url:
        yield libcloud(url)


def libcloud(url: str) -> Any:
    from libcloud.compute.providers import get_driver
    from libcloud.compute.types import Provider

    return get_driver(Provider.OPENSTACK)(
        "user",
        "password",
        secure=False,
        api_version="2.2",
        ex_tenant_name="project",
        ex_force_auth_url=url,
        ex_force_auth_token="none",
        # It deletes images where it takes the compute service to be.
        ex_force_base_url=f"{url}/v2",
        ex_force_image_url=url,
    )


def error_of(call: Any, *arguments: Any) -> tuple[int, str]:
    from libcloud.common.exceptions import BaseHTTPError

    with pytest.raises(BaseHTTPError) as caught:
        call(*arguments)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 3 * PAGE + 1])
def test_pages(service: Service, listing: Any, count: int) -> None:
    owner = caller(service, "listing")
    made = [owner.create(name=f"image {number}") for number in range(count)]
    found = listing.list_images()
    assert [(image.id, image.name) for image in reversed(found)] == [
        (image_id, f"image {number}") for number, image_id in enumerate(made)
    ]
    for image in found:
        assert listing.delete_image(image) is True
    assert listing.list_images() == []
    assert owner.get("/v2/images").json()["images"] == []


def test_get(owner: Client, ours: Any, theirs: Any) -> None:
    fields = {"min_disk": 3, "min_ram": 64, "os_distro": "debian", "os_version": "13"}
    image_id = owner.active(b"abc", name="shown", **fields)
    shown = owner.show(image_id)
    image = ours.get_image(image_id)
    assert (image.id, image.name) == (image_id, "shown")
    assert image.extra == {
        "visibility": "shared",
        "created": shown["created_at"],
        "updated": shown["updated_at"],
        "status": "active",
        "os_distro": "debian",
        "os_version": "13",
        "minDisk": 3,
        "minRam": 64,
        **dict.fromkeys(["progress", "metadata", "os_type", "serverId"]),
    }
    for driver, unknown in ((theirs, image_id), (ours, "nothing")):
        status, message = error_of(driver.get_image, unknown)
        assert status == 404 and f"No image found with ID {unknown}" in message


def test_update(owner: Client, ours: Any, theirs: Any) -> None:
    image_id = owner.create(name="before", k="v")
    changes = [
        {"op": "replace", "path": "/name", "value": "after"},
        {"op": "replace", "path": "/visibility", "value": "community"},
        {"op": "add", "path": "/os_type", "value": "linux"},
        {"op": "remove", "path": "/k"},
    ]
    changed = ours.ex_update_image(image_id, changes)
    assert (changed.id, changed.name) == (image_id, "after")
    assert (changed.extra["visibility"], changed.extra["os_type"]) == ("community", "linux")
    shown = owner.show(image_id)
    assert (shown["name"], shown["os_type"]) == ("after", "linux") and "k" not in shown
    assert theirs.get_image(image_id).name == "after"
    assert error_of(theirs.ex_update_image, image_id, changes)[0] == 403
    assert error_of(ours.ex_update_image, image_id, changes[-1:])[0] == 409
    assert error_of(ours.ex_update_image, image_id, {"name": "x"})[0] == 400
    assert owner.show(image_id) == shown


def test_members(owner: Client, ours: Any, theirs: Any) -> None:
    image_id = owner.create(name="offered")
    added = ours.ex_create_image_member(image_id, "theirs")
    assert (added.id, added.image_id, added.state) == ("theirs", image_id, "pending")
    assert added.extra["schema"] == "/v2/schemas/member"
    assert error_of(ours.ex_create_image_member, image_id, "theirs")[0] == 409
    assert error_of(ours.ex_accept_image_member, image_id, "theirs")[0] == 403
    assert image_id not in [image.id for image in theirs.list_images()]
    for _ in range(2):  # it promises that this may be repeated
        assert theirs.ex_accept_image_member(image_id, "theirs").state == "accepted"
    assert [image.id for image in theirs.list_images() if image.name == "offered"] == [image_id]
    second = ours.ex_create_image_member(image_id, "more")
    members = ours.ex_list_image_members(image_id)
    assert {(member.id, member.state) for member in members} == {
        ("theirs", "accepted"),
        ("more", "pending"),
    }
    assert [member.id for member in theirs.ex_list_image_members(image_id)] == ["theirs"]
    found = ours.ex_get_image_member(image_id, "more")
    assert (found.state, found.created) == ("pending", second.created)
    assert error_of(theirs.ex_get_image_member, image_id, "more")[0] == 404


def test_delete(owner: Client, ours: Any, theirs: Any) -> None:
    image_id = owner.active(b"abc", visibility="community", protected=True)
    image = ours.get_image(image_id)
    assert error_of(theirs.delete_image, image)[0] == 403
    assert error_of(ours.delete_image, image)[0] == 403
    ours.ex_update_image(image_id, [{"op": "replace", "path": "/protected", "value": False}])
    assert ours.delete_image(image) is True
    assert error_of(ours.delete_image, image)[0] == 404
    assert owner.get(f"/v2/images/{image_id}").status == 404
