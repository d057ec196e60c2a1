"""Who may do what, behind a proxy that identifies the caller."""

from collections.abc import Iterator

import attrs
import pytest

from tests.real.client import Client
from tests.real.service import running

NOWHERE = "00000000-0000-4000-8000-000000000000"


def with_roles(client: Client, roles: str, project: str) -> Client:
    """Return a client for a user with these roles in this project."""
    headers = {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": f"{roles} of {project}",
        "X-Project-Id": project,
        "X-Roles": roles,
    }
    return attrs.evolve(client, headers=headers)


@attrs.frozen
class Cloud:
    """Users of two projects, and a caller without any."""

    nobody: Client
    admin: Client
    member: Client
    reader: Client
    stranger: Client
    """A member of the other project."""

    def __getitem__(self, who: str) -> Client:
        found: Client = getattr(self, who)
        return found


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    options = {"auth": {"mode": "trusted_headers"}}
    with running(tmp_path_factory.mktemp("cloud"), options) as service:
        client = service.client
        yield Cloud(
            nobody=client,
            admin=with_roles(client, "admin", "operators"),
            member=with_roles(client, "Member,Reader", "ours"),
            reader=with_roles(client, "reader", "ours"),
            stranger=with_roles(client, "member,reader", "theirs"),
        )


@pytest.fixture
def image(cloud: Cloud, request: pytest.FixtureRequest) -> str:
    """Return an image of our member with data and the visibility that the test asks for."""
    visibility = request.param
    who = cloud.admin if visibility == "public" else cloud.member
    return who.active(b"data", visibility=visibility, owner="ours")


def test_nobody_may_anything(cloud: Cloud) -> None:
    for method, path in (
        ("GET", "/v2/images"),
        ("POST", "/v2/images"),
        ("GET", f"/v2/images/{NOWHERE}"),
        ("PUT", f"/v2/images/{NOWHERE}/file"),
    ):
        assert cloud.nobody.request(method, path).status == 401
    assert cloud.nobody.get("/versions").status == 200
    assert cloud.nobody.get("/healthcheck").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Identity-Status": "Invalid"},
        {"X-Identity-Status": ""},
        {"X-Roles": "admin", "X-User-Id": "me", "X-Project-Id": "p"},
    ],
)
def test_unconfirmed_identity(cloud: Cloud, headers: dict[str, str]) -> None:
    assert cloud.nobody.get("/v2/images", **headers).status == 401


def test_headers_from_elsewhere_are_not_believed(tmp_path_factory: pytest.TempPathFactory) -> None:
    trusted = {"from": ["192.0.2.1"]}
    options = {"auth": {"mode": "trusted_headers", "trusted_headers": trusted}}
    with running(tmp_path_factory.mktemp("elsewhere"), options) as service:
        assert with_roles(service.client, "admin", "p").get("/v2/images").status == 401


def test_identity_given_twice_is_refused(cloud: Cloud) -> None:
    fields = "".join(f"{name}: {value}\r\n" for name, value in cloud.reader.headers.items())
    head = f"GET /v2/images HTTP/1.1\r\nHost: localhost\r\n{fields}X-Roles: admin\r\n\r\n"
    assert cloud.nobody.exchange(head.encode()).status == 401


@pytest.mark.parametrize(
    ("who", "visibility", "owner", "status"),
    [
        ("member", "private", None, 201),
        ("member", "shared", "ours", 201),
        ("member", "community", None, 201),
        ("member", "public", None, 403),
        ("member", "private", "theirs", 403),
        ("reader", "private", None, 403),
        ("admin", "public", None, 201),
        ("admin", "private", "theirs", 201),
    ],
)
def test_create(cloud: Cloud, who: str, visibility: str, owner: str | None, status: int) -> None:
    document = {"visibility": visibility, **({"owner": owner} if owner else {})}
    reply = cloud[who].post("/v2/images", document)
    assert reply.status == status
    if status == 201:
        own = "operators" if who == "admin" else "ours"
        assert reply.json()["owner"] == (owner or own)


ANSWERS = [
    # visibility, who, show, download, upload, delete
    ("private", "admin", 200, 200, 409, 204),
    ("private", "member", 200, 200, 409, 204),
    ("private", "reader", 200, 403, 403, 403),
    ("private", "stranger", 404, 404, 404, 404),
    ("shared", "member", 200, 200, 409, 204),
    ("shared", "reader", 200, 403, 403, 403),
    ("shared", "stranger", 404, 404, 404, 404),
    ("community", "stranger", 200, 200, 403, 403),
    ("community", "reader", 200, 403, 403, 403),
    ("public", "stranger", 200, 200, 403, 403),
    ("public", "reader", 200, 403, 403, 403),
    ("public", "nobody", 401, 401, 401, 401),
]


@pytest.mark.parametrize(
    ("image", "who", "show", "download", "upload", "delete"),
    ANSWERS,
    ids=[f"{row[0]}-{row[1]}" for row in ANSWERS],
    indirect=["image"],
)
def test_an_image(
    cloud: Cloud, image: str, who: str, show: int, download: int, upload: int, delete: int
) -> None:
    client, path = cloud[who], f"/v2/images/{image}"
    assert client.get(path).status == show
    assert client.download(image).status == download
    assert client.upload(image, b"other").status == upload
    assert client.delete(path).status == delete
    assert cloud.admin.get(path).status == (404 if delete == 204 else 200)
    if delete != 204:
        assert cloud.admin.download(image).body == b"data"


def test_lists(cloud: Cloud) -> None:
    name = "listed"
    private = cloud.member.create(name=name, visibility="private")
    community = cloud.member.create(name=name, visibility="community")
    public = cloud.admin.create(name=name, visibility="public")
    theirs = cloud.stranger.create(name=name, visibility="private")

    def listed(who: str, query: str = "") -> set[str]:
        reply = cloud[who].get(f"/v2/images?name={name}{query}")
        return {one["id"] for one in reply.json()["images"]}

    assert listed("member") == {private, community, public}
    assert listed("reader") == {private, community, public}
    assert listed("stranger") == {public, theirs}
    assert listed("stranger", "&visibility=community") == {community}
    assert listed("stranger", "&visibility=all") == {public, theirs, community}
    assert {private, public, theirs} <= listed("admin")
    assert cloud.stranger.get(f"/v2/images?marker={private}").status == 400


def test_a_user_without_a_role(cloud: Cloud) -> None:
    stranger = with_roles(cloud.nobody, "", "ours")
    image_id = cloud.member.create()
    assert stranger.get("/v2/images").status == 403
    assert stranger.get(f"/v2/images/{image_id}").status == 404
    assert stranger.post("/v2/images", {}).status == 403


def test_anonymous_reading(tmp_path_factory: pytest.TempPathFactory) -> None:
    options = {"auth": {"mode": "trusted_headers", "anonymous_read": True}}
    with running(tmp_path_factory.mktemp("anonymous"), options) as service:
        nobody, admin = service.client, with_roles(service.client, "admin", "operators")
        public = admin.active(b"data", visibility="public")
        private = admin.active(b"data", visibility="private")
        assert [one["id"] for one in nobody.get("/v2/images").json()["images"]] == [public]
        assert nobody.download(public).body == b"data"
        assert nobody.get(f"/v2/images/{private}").status == 404
        assert nobody.post("/v2/images", {}).status == 403
        assert nobody.delete(f"/v2/images/{public}").status == 403
