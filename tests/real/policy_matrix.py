"""Policies, callers and requests, to compare the answers of imgservice with those of Glance."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tests.real.client import Client
from tests.real.roles import PATCH, members, replace

CALLERS: Mapping[str, tuple[str, str]] = {
    "owner": ("ours", "member,reader"),
    "reader": ("ours", "reader"),
    "plain": ("ours", "other"),
    "sharer": ("theirs", "member,reader"),
    "third": ("thirds", "member,reader"),
    "downloader": ("thirds", "reader,downloader"),
    "service": ("services", "service"),
    "admin": ("ops", "admin,member,reader"),
    "cloud": ("ops", "cloud_admin"),
}
"""Projects and roles; images are shared with "theirs"."""
KINDS = ("public", "community", "shared", "private")


@attrs.frozen
class Policy:
    text: str
    new_defaults: bool = True


POLICIES: Mapping[str, Policy] = {
    "defaults": Policy(""),
    "readers download, only admins delete": Policy(
        "get_image: role:reader and (project_id:%(owner)s or 'public':%(visibility)s)\n"
        "download_image: role:downloader\n"
        "delete_image: role:admin\n"
    ),
    "open": Policy(
        "\n".join(
            f'{name}: ""'
            for name in (
                "add_image", "get_image", "get_images", "modify_image", "delete_image",
                "upload_image", "download_image", "publicize_image", "communitize_image",
                "deactivate", "reactivate", "add_member", "delete_member", "modify_member",
                "get_member", "get_members", "fetch_image_location", "stores_info_detail",
            )
        )
    ),
    "another administrator": Policy("context_is_admin: role:cloud_admin\n"),
    "nobody by default": Policy('default: "!"\nget_members: rule:default\nget_task: "!"\n'),
    "by fields and properties": Policy(
        "get_image: not 'secret':%(colour)s\n"
        "modify_image: \"'plain':%(colour)s and role:member\"\n"
        "download_image: \"'active':%(status)s and role:reader\"\n"
        "deactivate: user_id:owner-user\n"
        "get_images: role:member or role:admin\n"
        "publicize_image: role:member\n"
    ),
    "own names": Policy(
        "mine: project_id:%(owner)s\n"
        "boss: role:admin or user_id:owner-user\n"
        "get_image: rule:mine or rule:boss\n"
        "get_images: '@'\n"
        "delete_image: rule:boss and not role:cloud_admin\n"
        "add_member: rule:mine\n"
        "add_image: (role:member and rule:mine) or rule:boss\n"
    ),
    "members decide": Policy(
        "modify_member: role:reader\n"
        "get_member: project_id:%(member_id)s or rule:context_is_admin\n"
        "get_members: role:member\n"
        "add_member: role:member\n"
        "delete_member: '!'\n"
    ),
    "json of former releases": Policy(
        json.dumps(
            {
                "context_is_admin": "role:admin",
                "default": "",
                "add_image": "",
                "delete_image": [["role:member", "project_id:%(owner)s"], ["role:admin"]],
                "get_image": "",
                "get_images": "",
                "modify_image": "rule:default",
                "publicize_image": "role:admin",
                "communitize_image": "",
                "download_image": "is_admin:True or tenant:%(owner)s",
                "upload_image": "",
            },
            indent=2,
        )
    ),
    "former defaults": Policy("", new_defaults=False),
    "former defaults, some rules": Policy(
        "delete_image: role:reader\nget_image: role:reader\nadd_image: role:member\n"
        "modify_member: role:member\n",
        new_defaults=False,
    ),
}  # fmt: skip


def identity(name: str) -> dict[str, str]:
    project, roles = CALLERS[name]
    return {
        "X-Identity-Status": "Confirmed",
        "X-User-Id": f"{name}-user",
        "X-Project-Id": project,
        "X-Roles": roles,
    }


def outcomes(server: Client, change_policy: Callable[[], None]) -> dict[str, Any]:
    """Make images by the default rules, and then ask by those that `change_policy` puts in force.

    Returns the statuses of the answers, and how many images were listed.
    """
    callers = {name: attrs.evolve(server, headers=identity(name)) for name in CALLERS}
    images = {
        (name, kind, state): _make(callers["admin"], name, kind, state)
        for name in CALLERS
        for kind in KINDS
        for state in ("active", "queued")
    }
    change_policy()
    found: dict[str, Any] = {name: {"lists": _lists(one)} for name, one in callers.items()}
    for name, one in callers.items():
        found[name]["general"] = _general(one)
        for kind in KINDS:
            found[name][kind] = _about(
                one, CALLERS[name][0], images[name, kind, "active"], images[name, kind, "queued"]
            )
    return found


def _make(admin: Client, name: str, kind: str, state: str) -> str:
    colour = "secret" if kind == "community" else "plain"
    fields = {"name": f"{name} {kind} {state}", "owner": "ours", "visibility": kind}
    image_id = admin.create(**fields, colour=colour)
    if kind == "shared":
        assert admin.post(members(image_id), {"member": "theirs"}).status == 200
    if state == "active":
        assert admin.upload(image_id, b"data").status == 204
    return image_id


def _lists(caller: Client) -> str:
    found = []
    for query in ("limit=1000", "limit=1000&visibility=all", "limit=0"):
        reply = caller.get(f"/v2/images?{query}")
        count = f":{len(reply.json()['images'])}" if reply.status == 200 else ""
        found.append(f"{reply.status}{count}")
    return " ".join(found)


def _general(caller: Client) -> str:
    found = [caller.get("/v2/info/stores/detail").status]
    for fields in ({}, {"owner": "theirs"}, {"visibility": "public"}, {"visibility": "community"}):
        reply = caller.post("/v2/images", {"name": "new", "visibility": "private", **fields})
        found.append(reply.status)
    return " ".join(map(str, found))


def _about(caller: Client, project: str, active: str, queued: str) -> str:
    def change(name: str, value: Any) -> int:
        body = json.dumps([replace(name, value)]).encode()
        headers = {"Content-Type": PATCH}
        return caller.request("PATCH", f"/v2/images/{active}", body, headers).status

    decision = json.dumps({"status": "accepted"}).encode()
    found = [
        caller.get(f"/v2/images/{active}").status,
        caller.download(active).status,
        caller.upload(queued, b"data").status,
        caller.get(members(active)).status,
        caller.get(members(active, "theirs")).status,
        caller.put(members(active, "theirs"), decision, Content_Type="application/json").status,
        caller.post(members(active), {"member": "fourths"}).status,
        caller.delete(members(active, "fourths")).status,
        caller.get(f"/v2/images/{active}/locations").status,
        change("name", "changed"),
        caller.put(f"/v2/images/{active}/tags/red", b"").status,
        change("owner", "fifths") if project == "thirds" else change("min_ram", 1),
        caller.post(f"/v2/images/{active}/actions/deactivate", None).status,
        caller.download(active).status,
        caller.post(f"/v2/images/{active}/actions/reactivate", None).status,
        change("visibility", "community"),
        change("visibility", "public"),
        caller.delete(f"/v2/images/{active}").status,
        caller.delete(f"/v2/images/{queued}").status,
    ]
    return " ".join(map(str, found))
