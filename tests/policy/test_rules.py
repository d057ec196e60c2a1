"""What the default conditions decide, and what they say in the policy language, is the same."""

from collections.abc import Iterator
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import attrs
import pytest

from imgservice.api.middleware.context import ANONYMOUS
from imgservice.domain.access import is_visible
from imgservice.domain.context import Context
from imgservice.domain.image import Image, Status, Visibility
from imgservice.policy.defaults import DefaultRules
from imgservice.policy.effective import _NOW
from imgservice.policy.files import Sources
from imgservice.policy.rules import PolicyRules
from imgservice.policy.table import RULES

ROLES = ("admin", "member", "reader", "service", "other")
TARGETED = sorted(rule.name for rule in RULES.values() if rule.has_target)
GENERAL = sorted(RULES.keys() - set(TARGETED))


def contexts() -> Iterator[Context]:
    sets = chain.from_iterable(combinations(ROLES, n) for n in range(len(ROLES) + 1))
    for roles, project in product(sets, ("ours", "theirs", None)):
        yield Context("somebody", project, frozenset(roles), is_admin="admin" in roles)
    yield Context("somebody", None, frozenset(ROLES), is_admin=True, system_scope="all")
    yield Context("somebody", None, frozenset(ROLES), is_admin=True, domain="a-domain")
    yield ANONYMOUS


def images() -> Iterator[Image]:
    for owner, visibility, membership in product(
        ("ours", "thirds", None), Visibility, (None, "pending", "accepted")
    ):
        yield Image(
            "an-id",
            Status.ACTIVE,
            _NOW,
            _NOW,
            owner=owner,
            visibility=visibility,
            membership=membership,
        )


@pytest.fixture(scope="module")
def spelled_out(tmp_path_factory: pytest.TempPathFactory) -> PolicyRules:
    """Return rules that override every default with what means the same."""
    lines = [f'{rule.name}: "({rule.check or "@"}) or !"\n' for rule in RULES.values()]
    return written(tmp_path_factory.mktemp("rules"), "".join(lines))


def written(tmp_path: Path, text: str, **options: Any) -> PolicyRules:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    return PolicyRules(Sources(file), lambda warning: None, **options)


def test_the_spelled_out_rules_are_not_those_in_code(spelled_out: PolicyRules) -> None:
    assert spelled_out._policy().overridden == RULES.keys()


@pytest.mark.parametrize("action", TARGETED)
def test_rules_about_a_target(action: str, spelled_out: PolicyRules) -> None:
    rules, allowed = DefaultRules(), 0
    is_new = action == "add_image"
    for context, image in product(contexts(), images()):
        expected = rules.allow(context, action, image, is_new)
        assert spelled_out.allow(context, action, image, is_new) is expected, (context, image)
        allowed += expected
    assert allowed


@pytest.mark.parametrize("action", GENERAL)
def test_rules_without_a_target(action: str, spelled_out: PolicyRules) -> None:
    for context in contexts():
        expected = DefaultRules().allow(context, action, None)
        assert spelled_out.allow(context, action, None) is expected, context


def test_without_scopes_whoever_asks_for_the_cloud_is_as_good(tmp_path: Path) -> None:
    caller = Context("root", None, frozenset({"admin"}), is_admin=True, system_scope="all")
    image = next(images())
    overridden = "get_image: role:admin\n"
    for rules in (DefaultRules(), written(tmp_path, overridden)):
        assert not rules.allow(caller, "get_image", image)
    for rules in (
        DefaultRules(enforce_scope=False),
        written(tmp_path, overridden, enforce_scope=False),
    ):
        assert rules.allow(caller, "get_image", image)


WRITES = sorted(rule.name for rule in RULES.values() if rule.writes and rule.has_target)


@pytest.mark.parametrize("action", WRITES)
def test_no_rule_lets_those_write_who_may_only_look(action: str, tmp_path: Path) -> None:
    rules = written(tmp_path, f'{action}: "@"\n')
    image = next(images())
    reading_admin = Context("a", "ours", frozenset({"admin"}), is_admin=True, read_only=True)
    for caller in (ANONYMOUS, reading_admin):
        assert not rules.allow(caller, action, image)
        assert not rules.allow(caller, action, image, is_new=True)
    assert rules.allow(attrs.evolve(reading_admin, read_only=False), action, image)


@pytest.mark.parametrize("action", sorted(set(TARGETED) - {"add_image"}))
def test_no_rule_shows_what_is_hidden(action: str, tmp_path: Path) -> None:
    rules = written(tmp_path, f'{action}: "@"\n')
    stranger = Context("she", "hers", frozenset(ROLES))
    for image in images():
        if not is_visible(stranger, image):
            assert not rules.allow(stranger, action, image)


def test_a_project_called_none_owns_nothing_that_is_nobodys(tmp_path: Path) -> None:
    image = attrs.evolve(next(images()), owner=None, visibility=Visibility.PUBLIC)
    rules = written(tmp_path, 'get_image: "project_id:%(owner)s"\ndownload_image: "None:%(owner)s"')
    for project in ("None", None):
        caller = Context("she", project, frozenset(ROLES))
        assert not rules.allow(caller, "get_image", image)
        assert rules.allow(caller, "download_image", image)


def test_names_of_the_operators_own(tmp_path: Path) -> None:
    rules = written(tmp_path, "billing: role:billing\nbroken: rule:nowhere\n")
    assert rules.allow(Context(roles=frozenset({"billing"})), "billing", None)
    assert not rules.allow(Context(), "billing", None)
    for name in ("broken", "nowhere"):
        with pytest.raises(KeyError):
            rules.allow(Context(), name, None)


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", False),
        ("delete_image: role:admin", False),
        ("get_image: role:reader", True),
        ("get_images: role:member", True),
        ("context_is_admin: role:cloud_admin", True),
        ("get_image: '@'", False),
        ("default: '!'", False),
    ],
)
def test_when_lists_ask_about_every_image(text: str, filters: bool, tmp_path: Path) -> None:
    assert written(tmp_path, text).filters_lists("get_image", "get_images") is filters


def test_former_defaults_leave_lists_to_the_database(tmp_path: Path) -> None:
    assert not written(tmp_path, "", new_defaults=False).filters_lists("get_image", "get_images")
