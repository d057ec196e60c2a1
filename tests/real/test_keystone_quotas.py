"""Limits on what projects have that a real Keystone keeps."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.keystone import PASSWORD, Keystone
from tests.keystone import started as keystone_started
from tests.real.client import Client, Reply
from tests.real.roles import caller
from tests.real.service import Service, running, wait_until

MIB = 1 << 20
REGION = "RegionOne"


@attrs.frozen
class Limits:
    """A Keystone in whose catalog we are, with limits that differ by region."""

    keystone: Keystone
    service_id: str
    endpoint_id: str

    def register(self, region: str | None, **limits: int) -> None:
        place = {"service_id": self.service_id, **({"region_id": region} if region else {})}
        document = [
            {**place, "resource_name": name, "default_limit": most} for name, most in limits.items()
        ]
        self.keystone.call("POST", "/registered_limits", {"registered_limits": document})

    def limit(self, project: str, region: str | None = REGION, **limits: int) -> list[str]:
        """Give the project limits of its own; return their ids."""
        place: dict[str, Any] = {"service_id": self.service_id}
        place["project_id"] = self.keystone.projects[project]
        if region:
            place["region_id"] = region
        document = [
            {**place, "resource_name": name, "resource_limit": most}
            for name, most in limits.items()
        ]
        made = self.keystone.call("POST", "/limits", {"limits": document})
        return [one["id"] for one in made["limits"]]

    def change(self, limit_id: str, most: int) -> None:
        document = {"limit": {"resource_limit": most}}
        self.keystone.call("PATCH", f"/limits/{limit_id}", document)

    def forget(self, limit_ids: list[str]) -> None:
        for limit_id in limit_ids:
            self.keystone.call("DELETE", f"/limits/{limit_id}")

    def client(self, service: Service, project: str, roles: str = "member,reader") -> Client:
        return caller(service, self.keystone.projects.get(project, project), roles)

    def options(
        self, auth: dict[str, Any] | None = None, mode: str = "trusted_headers", **limits: Any
    ) -> dict[str, Any]:
        return {
            "auth": {**self.keystone.auth(**(auth or {})), "mode": mode},
            "limits": {"keystone": {"enabled": True, "region": REGION, "cache_time": 0, **limits}},
            "logging": {"level": "debug"},
        }


def set_up(keystone: Keystone) -> Limits:
    wanted = {"service": {"type": "image", "name": "pictures"}}
    service_id = keystone.call("POST", "/services", wanted)["service"]["id"]
    found = {one["id"] for one in keystone.call("GET", "/regions")["regions"]}
    for region in sorted({REGION, "RegionTwo"} - found):
        keystone.call("POST", "/regions", {"region": {"id": region}})
    endpoints = {}
    for region in (REGION, "RegionTwo"):
        for interface in ("public", "internal"):
            endpoint = {
                "service_id": service_id,
                "region_id": region,
                "interface": interface,
                "url": "http://127.0.0.1:9292",
            }
            made = keystone.call("POST", "/endpoints", {"endpoint": endpoint})
            endpoints[region, interface] = made["endpoint"]["id"]
    limits = Limits(keystone, service_id, endpoints[REGION, "internal"])
    limits.register(
        REGION,
        image_size_total=3,
        image_stage_total=-1,
        image_count_total=4,
        image_count_uploading=2,
        something_else=1,
    )
    limits.register(None, image_count_total=1000, image_size_total=7)
    return limits


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limits]:
    with keystone_started(tmp_path_factory.mktemp("keystone")) as keystone:
        yield set_up(keystone)


@pytest.fixture(scope="module")
def service(limits: Limits, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service"), limits.options()) as started:
        yield started


def usage(client: Client) -> Any:
    reply = client.get("/v2/info/usage")
    assert reply.status == 200, reply
    return {name: (one["usage"], one["limit"]) for name, one in reply.json()["usage"].items()}


def refused(reply: Reply, words: str) -> None:
    assert reply.status == 413, reply
    assert words in reply.body.decode(), reply.body


def unavailable(reply: Reply) -> None:
    assert reply.status == 503, reply
    assert int(reply.headers["retry-after"]) > 0
    assert b"limits of the project cannot be found out" in reply.body


REGISTERED = {
    "image_size_total": (0, 3),
    "image_stage_total": (0, -1),
    "image_count_total": (0, 4),
    "image_count_uploading": (0, 2),
}


def test_what_is_registered_holds_for_all(limits: Limits, service: Service) -> None:
    client = limits.client(service, "alt")
    assert usage(client) == REGISTERED
    client.active(bytes(2 * MIB))
    assert usage(client) == REGISTERED | {
        "image_size_total": (2, 3),
        "image_count_total": (1, 4),
    }
    image_id = client.create()
    refused(
        client.upload(image_id, bytes(2 * MIB)),
        f"Project {limits.keystone.projects['alt']} is over a limit for [Resource image_size_total"
        " is over limit of 3 MiB due to current usage 2 MiB and delta 2 MiB]",
    )
    refused(client.upload(image_id, iter([bytes(2 * MIB)])), "image_size_total")
    assert client.upload(image_id, bytes(MIB)).status == 204
    client.create()
    client.create()
    refused(client.post("/v2/images", {}), "image_count_total is over limit of 4")


def test_limits_of_a_project_come_first(limits: Limits, service: Service) -> None:
    client = limits.client(service, "demo")
    size, count = limits.limit("demo", image_size_total=5, image_count_total=-1)
    elsewhere = limits.limit("demo", None, image_count_total=1)
    assert usage(client) == REGISTERED | {
        "image_size_total": (0, 5),
        "image_count_total": (0, -1),
    }
    kept = [client.active(bytes(MIB)) for _ in range(5)]
    refused(client.upload(client.create(), b"x"), "image_size_total is over limit of 5")
    limits.change(size, 1)
    assert usage(client)["image_size_total"] == (5, 1)
    assert client.download(kept[0]).status == 200
    refused(client.upload(client.create(), b"x"), "image_size_total is over limit of 1")
    limits.change(size, -1)
    assert client.upload(client.create(), b"x").status == 204
    limits.forget([size, count, *elsewhere])
    assert usage(client)["image_count_total"] == (8, 4)


def test_many_at_once(limits: Limits, service: Service) -> None:
    client = limits.client(service, "service")
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(client.post("/v2/images", {}).status))
        for _ in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(statuses) == {201: 4, 413: 26}


def test_with_tokens_and_memory(limits: Limits, tmp_path: Path) -> None:
    """Caller and quotas both come from Keystone, and are cached."""
    keystone = limits.keystone
    with running(tmp_path, limits.options(mode="keystone", cache_time=60)) as service:
        client = keystone.client(service, "reader", "demo")
        assert usage(client) == REGISTERED
        made = limits.limit("demo", image_count_total=2)
        assert usage(client) == REGISTERED
        writer = keystone.client(service, "demo", "demo")
        for _ in range(4):
            writer.create()
        refused(writer.post("/v2/images", {}), "image_count_total is over limit of 4")
        limits.forget(made)
        system = keystone.client(service, "admin", system=True)
        assert system.get("/v2/info/usage").json() == {"usage": {}}
        assert PASSWORD not in service.log.read_text() + service.said.read_text()
        assert keystone.admin() not in service.log.read_text()


@pytest.mark.parametrize(
    "auth",
    [
        {"username": "service-only"},
        {"username": "admin", "project": None},
    ],
    ids=["service", "system"],
)
def test_who_may_ask(limits: Limits, tmp_path: Path, auth: dict[str, Any]) -> None:
    made = limits.limit("demo", image_count_total=1)
    if auth["username"] == "admin":
        admin = limits.keystone.users["admin"]
        role = limits.keystone.roles["admin"]
        limits.keystone.call("PUT", f"/system/users/{admin}/roles/{role}")
    with running(tmp_path, limits.options(auth)) as service:
        client = limits.client(service, "demo")
        assert usage(client) == REGISTERED | {"image_count_total": (0, 1)}
        client.create()
        refused(client.post("/v2/images", {}), "image_count_total")
    limits.forget(made)


@pytest.mark.parametrize("by_name", [False, True], ids=["endpoint", "name"])
def test_where_limits_are_registered(limits: Limits, tmp_path: Path, by_name: bool) -> None:
    place: dict[str, Any] = {"endpoint_id": limits.endpoint_id, "region": None}
    with running(
        tmp_path, limits.options(**({"service": "pictures"} if by_name else place))
    ) as service:
        assert usage(limits.client(service, "admin")) == REGISTERED


def test_limits_without_a_region_hold_where_there_are_no_others(
    limits: Limits, tmp_path: Path
) -> None:
    """What is registered nowhere may not be had at all, and the log says so."""
    made = limits.limit("demo", None, image_size_total=6)
    made += limits.limit("demo", image_size_total=5)  # in another region
    with running(tmp_path, limits.options(region="RegionTwo")) as service:
        client = limits.client(service, "demo")
        assert usage(client) == {
            "image_size_total": (0, 6),
            "image_stage_total": (0, 0),
            "image_count_total": (0, 1000),
            "image_count_uploading": (0, 0),
        }
        refused(client.upload(client.create(), b"x"), "image_count_uploading is over limit of 0")
        assert usage(limits.client(service, "alt"))["image_size_total"] == (0, 7)
        told = "no registered limit image_count_uploading, image_stage_total for the service"
        wait_until(lambda: told in service.log.read_text())
        assert service.log.read_text().count(told) == 1
        assert "RegionTwo" in service.log.read_text()
    limits.forget(made)


def test_mistakes_are_told_at_the_start_and_close_the_door(limits: Limits, tmp_path: Path) -> None:
    told = f"Keystone's catalog has no endpoint {'0' * 32}"
    with running(tmp_path, limits.options(endpoint_id="0" * 32)) as service:
        wait_until(lambda: told in service.log.read_text())
        client = limits.client(service, "demo")
        unavailable(client.post("/v2/images", {}))
        unavailable(client.get("/v2/info/usage"))
        assert client.get("/v2/images").json()["images"] == []
        assert service.log.read_text().count(told) == 1
        assert service.rows("SELECT * FROM images") == []


def test_without_keystone_nothing_is_added(limits: Limits, service: Service) -> None:
    client = limits.client(service, "unheard-of")
    kept, waiting = client.active(bytes(MIB)), client.create()
    limits.keystone.kill()
    try:
        unavailable(client.post("/v2/images", {}))
        unavailable(client.upload(waiting, b"x"))
        unavailable(client.upload(waiting, iter([b"x"])))
        assert client.show(waiting)["status"] == "queued"
        assert client.download(kept).body == bytes(MIB)
        assert client.delete(f"/v2/images/{kept}").status == 204
    finally:
        limits.keystone.start()
    assert client.upload(waiting, b"x").status == 204
    assert usage(client)["image_count_total"] == (1, 4)
