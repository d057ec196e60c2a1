"""Every rule of the policy is asked: a file that overrides it changes the answer of its request.

Rules of requests that are not served yet are listed, and must leave the list when these are.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from imgservice.policy.table import RULES
from tests.origin import Origin, origin
from tests.real.client import Client, Reply
from tests.real.roles import add, caller, decide, members, patch, remove, replace
from tests.real.service import Service
from tests.real.test_locations import started

Question = Callable[[], Reply]
Case = Callable[["Stage"], Question]
IMAGES = "/v2/images"
IMAGE = f"{IMAGES}/{{image_id}}"
FILE, LOCATIONS, MEMBERS = f"{IMAGE}/file", f"{IMAGE}/locations", f"{IMAGE}/members"
MEMBER, TAG = f"{MEMBERS}/{{member_id}}", f"{IMAGE}/tags/{{tag}}"
COPY = "/v2/stores/{store_id}/{image_id}"
DETAIL = "/v2/info/stores/detail"


@attrs.frozen
class Stage:
    """A service and its callers; what a case prepares is done by the default rules."""

    service: Service
    policy: Path
    web: Origin

    def caller(self, project: str = "ours", roles: str = "member,reader") -> Client:
        return caller(self.service, project, roles)

    @property
    def owner(self) -> Client:
        return self.caller()

    @property
    def admin(self) -> Client:
        return self.caller("ops", "admin,member,reader,service")

    def shared(self) -> str:
        """Return an image that is shared with a project."""
        image_id = self.owner.create(visibility="shared")
        assert self.owner.post(members(image_id), {"member": "theirs"}).status == 200
        return image_id

    def answer(self, case: Case, policy: str) -> Reply:
        """Prepare the case, and ask its question while this policy holds."""
        self.policy.write_text("{}")
        question = case(self)
        self.policy.write_text(policy)
        return question()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("rules")
    policy = folder / "policy.yaml"
    policy.write_text("{}")
    options: dict[str, Any] = {
        "policy": {"file": str(policy)},
        "limits": {"rate": {"address": {"exempt": ["127.0.0.1"]}, "project": {"creates": None}}},
    }
    with origin() as web, started(folder, **options) as service:
        web.put("/data", b"data")
        web.put("/copy", b"data")
        yield Stage(service, policy, web)


# -- a request for each ---------------------------------------------------------------------------


def created(stage: Stage, visibility: str = "private") -> Question:
    return lambda: stage.owner.post(IMAGES, {"visibility": visibility})


def got(stage: Stage, path: str) -> Question:
    image_id = stage.owner.active(b"data")
    return lambda: stage.owner.get(path.format(image_id=image_id))


def listed(stage: Stage) -> Question:
    return lambda: stage.owner.get(IMAGES)


def deleted(stage: Stage) -> Question:
    image_id = stage.owner.create()
    return lambda: stage.owner.delete(f"{IMAGES}/{image_id}")


def patched(stage: Stage, operation: Any) -> Question:
    image_id = stage.owner.create()
    return lambda: patch(stage.owner, image_id, operation)


def tagged(stage: Stage) -> Question:
    image_id = stage.owner.create()
    return lambda: stage.owner.put(f"{IMAGES}/{image_id}/tags/red", b"")


def untagged(stage: Stage) -> Question:
    image_id = stage.owner.create(tags=["red"])
    return lambda: stage.owner.delete(f"{IMAGES}/{image_id}/tags/red")


def uploaded(stage: Stage) -> Question:
    image_id = stage.owner.create()
    return lambda: stage.owner.upload(image_id, b"data")


def switched(stage: Stage, action: str) -> Question:
    actions = f"{IMAGES}/{stage.owner.active(b'data')}/actions"
    if action == "reactivate":
        assert stage.owner.request("POST", f"{actions}/deactivate").status == 204
    return lambda: stage.owner.request("POST", f"{actions}/{action}")


def location_replaced(stage: Stage) -> Question:
    image_id = stage.owner.active(b"data")
    same = replace("locations", stage.owner.show(image_id)["locations"])
    return lambda: patch(stage.owner, image_id, same)


def location_removed(stage: Stage) -> Question:
    image_id = stage.owner.create()
    for path in ("/data", "/copy"):
        added = patch(stage.owner, image_id, add("locations/-", place(stage, path)))
        assert added.status == 200
    return lambda: patch(stage.owner, image_id, remove("locations/0"))


def copy_removed(stage: Stage) -> Question:
    image_id = stage.owner.active(b"data")
    added = patch(stage.owner, image_id, add("locations/-", place(stage, "/copy")))
    assert added.status == 200
    return lambda: stage.admin.delete(f"/v2/stores/local/{image_id}")


def place(stage: Stage, path: str) -> Any:
    return {"url": stage.web.url(path), "metadata": {}}


def location_given(stage: Stage) -> Question:
    image_id = stage.owner.create()
    given = {"url": stage.web.url("/data")}
    return lambda: stage.admin.post(f"{IMAGES}/{image_id}/locations", given)


def locations_shown(stage: Stage) -> Question:
    image_id = stage.owner.active(b"data")
    return lambda: stage.admin.get(f"{IMAGES}/{image_id}/locations")


def member_added(stage: Stage) -> Question:
    image_id = stage.shared()
    return lambda: stage.owner.post(members(image_id), {"member": "thirds"})


def member_removed(stage: Stage) -> Question:
    image_id = stage.shared()
    return lambda: stage.owner.delete(members(image_id, "theirs"))


def member_shown(stage: Stage, project: str | None) -> Question:
    image_id = stage.shared()
    return lambda: stage.owner.get(members(image_id, project))


def member_decided(stage: Stage) -> Question:
    image_id = stage.shared()
    return lambda: decide(stage.caller("theirs"), image_id, "theirs", "accepted")


def stores_shown(stage: Stage) -> Question:
    return lambda: stage.admin.get(DETAIL)


def foreign_shown(stage: Stage) -> Question:
    """Ask for what only an administrator may see."""
    image_id = stage.caller("theirs").create(visibility="private")
    return lambda: stage.owner.get(f"{IMAGES}/{image_id}")


CASES: Mapping[tuple[str, str], Case] = {
    ("add_image", f"POST {IMAGES}"): created,
    ("publicize_image", f"POST {IMAGES}"): partial(created, visibility="public"),
    ("communitize_image", f"POST {IMAGES}"): partial(created, visibility="community"),
    ("get_images", f"GET {IMAGES}"): listed,
    ("get_image", f"GET {IMAGE}"): partial(got, path=IMAGE),
    ("modify_image", f"PATCH {IMAGE}"): partial(patched, operation=add("colour", "red")),
    ("modify_image", f"PUT {TAG}"): tagged,
    ("modify_image", f"DELETE {TAG}"): untagged,
    ("publicize_image", f"PATCH {IMAGE}"): partial(
        patched, operation=replace("visibility", "public")
    ),
    ("communitize_image", f"PATCH {IMAGE}"): partial(
        patched, operation=replace("visibility", "community")
    ),
    ("set_image_location", f"PATCH {IMAGE}"): location_replaced,
    ("delete_image_location", f"PATCH {IMAGE}"): location_removed,
    ("delete_image_location", f"DELETE {COPY}"): copy_removed,
    ("get_image_location", f"DELETE {COPY}"): copy_removed,
    ("delete_image", f"DELETE {IMAGE}"): deleted,
    ("upload_image", f"PUT {FILE}"): uploaded,
    ("download_image", f"GET {FILE}"): partial(got, path=FILE),
    ("download_from_store", f"GET {FILE}"): partial(got, path=f"{FILE}?prefer=local"),
    ("deactivate", f"POST {IMAGE}/actions/deactivate"): partial(switched, action="deactivate"),
    ("reactivate", f"POST {IMAGE}/actions/reactivate"): partial(switched, action="reactivate"),
    ("add_image_location", f"POST {LOCATIONS}"): location_given,
    ("fetch_image_location", f"GET {LOCATIONS}"): locations_shown,
    ("add_member", f"POST {MEMBERS}"): member_added,
    ("delete_member", f"DELETE {MEMBER}"): member_removed,
    ("get_members", f"GET {MEMBERS}"): partial(member_shown, project=None),
    ("get_member", f"GET {MEMBER}"): partial(member_shown, project="theirs"),
    ("modify_member", f"PUT {MEMBER}"): member_decided,
    ("stores_info_detail", f"GET {DETAIL}"): stores_shown,
    ("context_is_admin", ""): foreign_shown,
    ("service_api", ""): locations_shown,
    ("default", ""): listed,
}
"""What asks each rule, by the request that it guards; without one where others refer to it."""
REFERRED = {"default": "get_images: rule:default\n"}
"""What the files say besides, where no rule of a served request refers to this one by itself."""
NOT_SERVED = {
    f"POST {IMAGE}/import": "images are not imported yet",
    "/v2/cache": "there is no cache yet",
    "/v2/tasks": "there are no tasks yet",
    "/v2/metadefs/": "there are no definitions of metadata yet",
}
"""Beginnings of requests, with or without a method, and why their rules are never asked."""
REFERRED_NOWHERE = {
    "manage_image_cache": "only rules of the cache refer to it",
    "metadef_default": "only rules of definitions of metadata refer to it",
    "metadef_admin": "only rules of definitions of metadata refer to it",
}
UNGUARDED = {
    "GET /v2/openapi.json": "no secret",
    "GET /v2/info/import": "for everybody",
    "GET /v2/info/stores": "for everybody",
    "GET /v2/info/usage": "of the caller's own project",
    "GET /v2/schemas/": "no secret",
}
"""Beginnings of requests that no rule guards."""


@pytest.mark.parametrize(("rule", "operation"), CASES, ids=lambda text: text.replace("/v2/", ""))
def test_a_file_changes_the_answer(stage: Stage, rule: str, operation: str) -> None:
    case = CASES[rule, operation]
    beside = REFERRED.get(rule, "")
    refused = stage.answer(case, f"{beside}{rule}: '!'")
    allowed = stage.answer(case, f"{beside}{rule}: '@'")
    assert refused.status in (403, 404)
    assert allowed.status < 300


# -- nothing is left out --------------------------------------------------------------------------


def guarded() -> set[tuple[str, str]]:
    return {(rule.name, each) for rule in RULES.values() for each in rule.operations or [""]}


def is_listed(operation: str, beginnings: Iterable[str]) -> bool:
    path = operation.partition(" ")[2]
    return any(text.startswith(one) for one in beginnings for text in (operation, path))


def plain(operation: str) -> str:
    """Return the request without the names of its variables."""
    return re.sub(r"{\w+}", "{}", operation)


@pytest.fixture(scope="module")
def served(stage: Stage) -> set[str]:
    document = stage.owner.get("/v2/openapi.json").json()
    return {
        f"{method.upper()} /v2{path}"
        for path, methods in document["paths"].items()
        for method in methods
    }


def test_every_rule_is_asked_or_listed() -> None:
    listed = {
        (rule, operation)
        for rule, operation in guarded()
        if (is_listed(operation, NOT_SERVED) if operation else rule in REFERRED_NOWHERE)
    }
    assert guarded() - listed == CASES.keys()
    assert not listed & CASES.keys()


def test_what_is_listed_as_not_served_is_not(served: set[str]) -> None:
    assert [
        one for one in served if is_listed(plain(one), [plain(each) for each in NOT_SERVED])
    ] == []
    asked = {plain(operation) for _, operation in CASES if operation}
    assert asked <= set(map(plain, served))


def test_every_request_has_a_rule_or_is_listed(served: set[str]) -> None:
    ruled = {plain(operation) for _, operation in guarded()}
    assert [
        one for one in served if plain(one) not in ruled and not is_listed(one, UNGUARDED)
    ] == []
