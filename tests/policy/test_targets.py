"""Rules are asked about anything that is a `Target`, not about images alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from imgservice.domain.access import Access, Rules
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotFound
from imgservice.policy.defaults import DefaultRules
from imgservice.policy.files import Sources
from imgservice.policy.rules import PolicyRules


@attrs.frozen
class Namespace:
    """A target with a name of its own and no members."""

    show_rule: ClassVar[str] = "get_metadef_namespace"
    name: str
    owner: str | None
    visibility: str
    membership: None = None

    @property
    def fields(self) -> Mapping[str, object]:
        return {"name": self.name, "project_id": self.owner, "visibility": self.visibility}

    def not_found(self) -> NotFound:
        return NotFound(f"Namespace {self.name} not found")


@attrs.frozen
class Offer:
    """A target that is shared with the caller's project."""

    show_rule: ClassVar[str] = "get_member"
    owner: str
    membership: str | None
    visibility: str = "shared"

    @property
    def fields(self) -> Mapping[str, object]:
        return {"project_id": self.owner, "visibility": self.visibility}

    def not_found(self) -> NotFound:
        return NotFound("no such member")


OURS = Namespace("ours-one", "ours", "private")
PUBLIC = Namespace("theirs-one", "theirs", "public")
THEIRS = Namespace("theirs-two", "theirs", "private")
ADMIN = Context("root", "ops", frozenset({"admin"}), is_admin=True)
READER = Context("me", "ours", frozenset({"reader"}))
MEMBER = Context("me", "ours", frozenset({"member", "reader"}))


@pytest.fixture(params=["defaults", "files"])
def rules(request: pytest.FixtureRequest, tmp_path: Path) -> Rules:
    """Return the default rules, and files that say the same in other words."""
    if request.param == "defaults":
        return DefaultRules()
    return from_file(
        tmp_path,
        "get_metadef_namespace: not (not rule:context_is_admin and not (role:reader and"
        " (project_id:%(project_id)s or 'public':%(visibility)s)))\n"
        "modify_metadef_namespace: not (not rule:metadef_admin)\n"
        "get_member: not (not (role:reader and (project_id:%(project_id)s or"
        " project_id:%(member_id)s)))\n"
        "modify_member: not (not (role:member and project_id:%(member_id)s))\n",
    )


def from_file(folder: Path, text: str) -> PolicyRules:
    file = folder / "policy.yaml"
    file.write_text(text)
    return PolicyRules(Sources(file), lambda warning: None)


def test_a_namespace(rules: Rules) -> None:
    access = Access(rules)
    for namespace in (OURS, PUBLIC):
        access.require(READER, "get_metadef_namespace", namespace)
        with pytest.raises(Forbidden, match="modify_metadef_namespace"):
            access.require(READER, "modify_metadef_namespace", namespace)
        access.require(ADMIN, "modify_metadef_namespace", namespace)
    for rule in ("get_metadef_namespace", "modify_metadef_namespace"):
        with pytest.raises(NotFound, match="theirs-two"):
            access.require(READER, rule, THEIRS)


def test_what_is_shared_with_the_caller(rules: Rules) -> None:
    access = Access(rules)
    access.require(MEMBER, "modify_member", Offer("theirs", "pending"))
    access.require(READER, "get_member", Offer("theirs", "pending"))
    with pytest.raises(Forbidden):
        access.require(READER, "modify_member", Offer("theirs", "pending"))
    with pytest.raises(NotFound, match="no such member"):
        access.require(MEMBER, "modify_member", Offer("theirs", None))


def test_a_file_asks_for_the_fields_of_the_target(tmp_path: Path) -> None:
    rules = from_file(
        tmp_path, "modify_metadef_namespace: \"'ours-one':%(name)s and 'red':%(colour)s\"\n"
        "add_metadef_tag: \"'ours-one':%(name)s\"\n",
    )  # fmt: skip
    assert rules.allow(READER, "add_metadef_tag", OURS)
    assert not rules.allow(READER, "add_metadef_tag", PUBLIC)
    assert not rules.allow(READER, "modify_metadef_namespace", OURS)


def test_a_list_is_filtered_by_the_rule_that_shows_its_targets(tmp_path: Path) -> None:
    list_rule, listed = "get_metadef_namespaces", (OURS, PUBLIC, THEIRS)
    assert Access(DefaultRules()).visible(READER, list_rule, listed) == listed
    rules = from_file(tmp_path, "get_metadef_namespace: project_id:%(project_id)s\n")
    assert Access(rules).visible(READER, list_rule, listed) == [OURS]
    assert Access(rules).visible(READER, "get_images", ()) == ()
