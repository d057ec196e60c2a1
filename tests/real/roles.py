"""Callers of a service that trusts the headers of a proxy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.real.client import Client, Reply
from tests.real.service import Service, running

TRUSTED = {"auth": {"mode": "trusted_headers"}}
PATCH = "application/openstack-images-v2.1-json-patch"
OLDER_PATCH = "application/openstack-images-v2.0-json-patch"


def identity(project: str, roles: str) -> dict[str, str]:
    return {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": f"{project}-user",
        "X-Project-Id": project,
        "X-Roles": roles,
    }


def caller(service: Service, project: str, roles: str = "member,reader") -> Client:
    return attrs.evolve(service.client, headers=identity(project, roles))


@attrs.frozen
class Callers:
    owner: Client
    reader: Client
    """Of the owner's project."""
    other: Client
    admin: Client


def callers(service: Service) -> Callers:
    return Callers(
        owner=caller(service, "ours"),
        reader=caller(service, "ours", "reader"),
        other=caller(service, "theirs"),
        admin=caller(service, "ops", "admin,member,reader"),
    )


@contextmanager
def trusting(directory: Path, **options: Any) -> Iterator[Service]:
    with running(directory, {**TRUSTED, **options}) as service:
        yield service


def patch(client: Client, image_id: str, *operations: Any, type_: str = PATCH) -> Reply:
    body = json.dumps(list(operations)).encode()
    return client.request("PATCH", f"/v2/images/{image_id}", body, {"Content-Type": type_})


def add(name: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": f"/{name}", "value": value}


def replace(name: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": f"/{name}", "value": value}


def remove(name: str) -> dict[str, Any]:
    return {"op": "remove", "path": f"/{name}"}


def members(image_id: str, project: str | None = None) -> str:
    return f"/v2/images/{image_id}/members" + ("" if project is None else f"/{project}")


def decide(client: Client, image_id: str, project: str, status: Any) -> Reply:
    return client.put(
        members(image_id, project),
        json.dumps({"status": status}).encode(),
        Content_Type="application/json",
    )
