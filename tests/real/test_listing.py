"""Lists: their pages, orders and filters, asked of a running service."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest

from tests.real.client import Client
from tests.real.service import Service, running

NAMES = ("cedar", "alder", "birch", "alder", "elm", "a,b", "colon:ised")


@attrs.frozen
class Forest:
    """A service with seven known images."""

    client: Client
    ids: dict[str, str]
    """By size, which is unique."""

    def listed(self, *pairs: tuple[str, str], **query: str) -> list[str]:
        """Return the names of a list."""
        reply = self.client.get(f"/v2/images?{urlencode([*pairs, *query.items()])}")
        assert reply.status == 200, reply
        return [image["name"] for image in reply.json()["images"]]


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forest]:
    with running(tmp_path_factory.mktemp("forest")) as service:
        yield Forest(service.client, dict(_plant(service)))


def _plant(service: Service) -> Iterator[tuple[str, str]]:
    client = service.client
    for size, name in enumerate(NAMES):
        fields: dict[str, Any] = {
            "name": name,
            "min_ram": size * 10,
            "protected": name == "elm",
            "visibility": "public" if size % 2 else "private",
            "tags": ["tree", *(["odd"] if size % 2 else [])],
            "kind": f"kind {size % 3}",
        }
        yield str(size), client.active(bytes(size), **fields)
    client.create(name="hidden", os_hidden=True)
    client.create(name=None, disk_format=None, container_format=None, owner="others")


# -- pages ----------------------------------------------------------------------------------------


def test_list(forest: Forest) -> None:
    reply = forest.client.get("/v2/images")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    document = reply.json()
    assert document.keys() == {"images", "first", "schema"}
    assert (document["first"], document["schema"]) == ("/v2/images", "/v2/schemas/images")
    [first] = [one for one in document["images"] if one["name"] == "elm"]
    assert first == forest.client.show(forest.ids["4"])


def test_newest_come_first(forest: Forest) -> None:
    times = [
        (one["created_at"], one["id"]) for one in forest.client.get("/v2/images").json()["images"]
    ]
    assert [time for time, _ in times] == sorted((time for time, _ in times), reverse=True)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 8, 9])
def test_pages_cover_everything_once(forest: Forest, limit: int) -> None:
    path, seen, pages = f"/v2/images?limit={limit}&sort=name:asc", [], 0
    while path:
        document = forest.client.get(path).json()
        pages += 1
        seen += [one["id"] for one in document["images"]]
        path = document.get("next")
        assert document["first"].startswith("/v2/images?limit=")
    assert len(seen) == len(set(seen)) == 8
    assert pages == 8 // limit + 1  # an exact multiple ends in an empty page


def test_next_link_keeps_repeated_parameters(forest: Forest) -> None:
    query = "tag=tree&tag=odd&sort_key=name&sort_key=id&limit=2"
    first = forest.client.get(f"/v2/images?{query}").json()
    assert first["first"] == f"/v2/images?{query}"
    marker = first["images"][-1]["id"]
    assert first["next"] == f"/v2/images?{query}&marker={marker}"
    second = forest.client.get(first["next"]).json()
    assert {"odd", "tree"} <= set(second["images"][0]["tags"])
    assert len(second["images"]) == 1


def test_limits(forest: Forest) -> None:
    nothing = forest.client.get("/v2/images?limit=0").json()
    assert nothing["images"] == []
    assert "next" not in nothing
    assert len(forest.listed(limit="99999999999999999999")) == 8


def test_numbers_beyond_all_that_there_are(forest: Forest) -> None:
    huge = "9" * 40
    assert len(forest.listed(min_ram_max=huge, min_disk_min=f"-{huge}")) == 8
    assert forest.listed(size_min=huge) == forest.listed(size=huge) == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=abc",
        "limit=1.5",
        "limit=",
        "marker=00000000-0000-4000-8000-000000000000",
        "marker=x",
        "sort_key=foo",
        "sort_dir=sideways",
        "sort_key=name&sort_dir=asc&sort_dir=desc",
        "sort=name:sideways",
        "sort=foo",
        "sort=name&sort_key=id",
        "visibility=foo",
        "member_status=foo",
        "protected=foo",
        "os_hidden=foo",
        "size_min=foo",
        "min_disk_max=foo",
        "name=foo:bar",
        "status=foo:bar",
        'name=in:"a',
        'name=in:"a"b',
        "created_at=yesterday",
        "created_at=gt:yesterday",
        "updated_at=about:2020-01-01T00:00:00Z",
        "created_at=gt:9999-12-31T23:59:59-02:00",
        "created_at=lt:0001-01-01T00:00:00%2B02:00",
        "changes-since=2020-01-01T00:00:00Z",
        "foo=%ff",
    ],
)
def test_bad_queries(forest: Forest, query: str) -> None:
    reply = forest.client.get(f"/v2/images?{query}", Accept="application/json")
    assert reply.status == 400
    assert reply.json()["message"]


@pytest.mark.parametrize("order", ["", "&sort=name:asc", "&sort=size:desc,id:asc"])
def test_the_list_goes_on_when_its_last_image_is_deleted(forest: Forest, order: str) -> None:
    made = {forest.client.create(tags=["walk"], name=f"{n}") for n in range(6)}
    seen: list[str] = []
    path = f"/v2/images?tag=walk&limit=2{order}"
    while path:
        document = forest.client.get(path).json()
        seen += [one["id"] for one in document["images"]]
        if document["images"]:
            assert forest.client.delete(f"/v2/images/{seen[-1]}").status == 204
        path = document.get("next")
    assert len(seen) == 6 and set(seen) == made
    for rest in made - {seen[1], seen[3], seen[5]}:
        forest.client.delete(f"/v2/images/{rest}")


@pytest.mark.parametrize("key", ["status", "updated_at"])
def test_a_deleted_marker_is_refused_where_deleting_moves_it(forest: Forest, key: str) -> None:
    gone = forest.client.create()
    path = f"/v2/images?sort={key}:asc&marker={gone}"
    assert forest.client.get(path).status == 200
    assert forest.client.delete(f"/v2/images/{gone}").status == 204
    reply = forest.client.get(path, Accept="application/json")
    assert reply.status == 400
    assert f"No image found with ID {gone}: the marker is no image" in reply.json()["message"]


# -- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([("sort", "name:asc,size:desc")], ["a,b", "alder", "alder", "birch", "cedar"]),
        ([("sort_key", "name"), ("sort_dir", "asc")], ["a,b", "alder", "alder", "birch", "cedar"]),
        ([("sort_key", "name")], ["elm", "colon:ised", "cedar", "birch", "alder", "alder"]),
        ([("sort", "size:asc")], list(NAMES)),
        ([("sort", "size")], list(reversed(NAMES))),
        (
            [("sort_key", "name"), ("sort_key", "size"), ("sort_dir", "asc"), ("sort_dir", "desc")],
            ["a,b", "alder", "alder"],
        ),
    ],
)
def test_orders(forest: Forest, query: list[tuple[str, str]], expected: list[str]) -> None:
    assert forest.listed(*query, status="active")[: len(expected)] == expected


@pytest.mark.parametrize(
    "key", ["name", "status", "container_format", "disk_format", "size", "id", "updated_at"]
)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_paging_ends_over_missing_values(forest: Forest, key: str, direction: str) -> None:
    path, seen = f"/v2/images?sort={key}:{direction}&limit=3", []
    for _ in range(5):
        document = forest.client.get(path).json()
        seen += [one["id"] for one in document["images"]]
        if "next" not in document:
            break
        path = document["next"]
    assert len(seen) == len(set(seen)) == 8


# -- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"name": "alder"}, ["alder", "alder"]),
        ({"name": "in:alder,elm"}, ["alder", "alder", "elm"]),
        ({"name": 'in:"a,b",elm'}, ["a,b", "elm"]),
        ({"name": 'in:"colon:ised"'}, ["colon:ised"]),
        ({"name": "Alder"}, []),
        ({"status": "queued"}, ["None"]),
        ({"status": "in:queued,saving"}, ["None"]),
        ({"size_min": "5"}, ["a,b", "colon:ised"]),
        ({"size_max": "1"}, ["alder", "cedar"]),
        ({"size_min": "2", "size_max": "3"}, ["alder", "birch"]),
        ({"min_ram": "40"}, ["elm"]),
        ({"min_ram_min": "50"}, ["a,b", "colon:ised"]),
        ({"protected": "true"}, ["elm"]),
        ({"os_hidden": "true"}, ["hidden"]),
        ({"tag": "odd"}, ["a,b", "alder", "alder"]),
        ({"tag": "nothing"}, []),
        ({"kind": "kind 1"}, ["alder", "elm"]),
        ({"kind": "kind 1", "tag": "odd"}, ["alder"]),
        ({"unheard_of": "x"}, []),
        ({"owner": "others"}, ["None"]),
        ({"owner": "nobody"}, []),
        ({"checksum": "d41d8cd98f00b204e9800998ecf8427e"}, ["cedar"]),
        ({"visibility": "public"}, ["a,b", "alder", "alder"]),
        ({"visibility": "private", "size_min": "4"}, ["colon:ised", "elm"]),
        ({"visibility": "community"}, []),
        ({"disk_format": "in:qcow2,iso"}, []),
        ({"container_format": "bare", "size_max": "0"}, ["cedar"]),
        ({"deleted": "true", "name": "elm"}, ["elm"]),
        ({"created_at": "lt:2020-01-01T00:00:00Z"}, []),
        ({"created_at": "gte:2020-01-01T00:00:00+02:00", "name": "elm"}, ["elm"]),
        ({"updated_at": "neq:2020-01-01T00:00:00Z", "name": "elm"}, ["elm"]),
        ({"created_at": "2020-01-01T00:00:00Z"}, []),
        ({"member_status": "all", "name": "elm"}, ["elm"]),
    ],
)
def test_filters(forest: Forest, query: dict[str, str], expected: list[str]) -> None:
    assert sorted(map(str, forest.listed(**query))) == sorted(expected)


def test_several_tags_are_all_asked_for(forest: Forest) -> None:
    both = forest.listed(("tag", "tree"), ("tag", "odd"))
    assert sorted(both) == ["a,b", "alder", "alder"]


def test_created_at_is_exact(forest: Forest) -> None:
    shown = forest.client.show(forest.ids["4"])
    assert forest.listed(created_at=f"gte:{shown['created_at']}", name="elm") == ["elm"]
    assert forest.listed(id=f"in:{shown['id']},x") == ["elm"]
