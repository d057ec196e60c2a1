"""The default rules decide as `decisions.yaml` says, for every kind of caller and target."""

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import yaml

from imgservice.domain.context import Context
from imgservice.domain.image import Image, Status, Visibility
from imgservice.policy.defaults import DefaultRules
from imgservice.policy.effective import _NOW
from imgservice.policy.table import RULES

FACTS = yaml.safe_load((Path(__file__).parent / "decisions.yaml").read_text())
DEFAULTS = DefaultRules()


def caller(roles: str = "", project: str | None = "ours") -> Context:
    names = frozenset(roles.split())
    return Context("somebody", project, names)


ADMIN = attrs.evolve(caller("admin member reader", "ops"), is_admin=True)
CALLERS: Mapping[str, Context] = {
    "admin": ADMIN,
    "member": caller("member reader"),
    "reader": caller("reader"),
    "no role": caller(),
    "service": caller("service", "services"),
    "service of the owner": caller("service"),
    "role admin only": caller("admin", "ops"),  # where the operator made others administrators
    "member, no project": caller("member reader", None),
    "anonymous": attrs.evolve(caller("member reader", None), read_only=True),
    "system admin": attrs.evolve(ADMIN, project=None, system_scope="all"),
    "domain admin": attrs.evolve(ADMIN, project=None, domain="a-domain"),
}


def images() -> list[list[Image]]:
    """Return the targets in the order of the file."""
    own = Image("an-id", Status.ACTIVE, _NOW, _NOW, owner="ours")
    names = ("public", "community", "shared", "private")
    public, community, shared, private = (
        attrs.evolve(own, visibility=Visibility(name)) for name in names
    )
    joined = attrs.evolve(shared, membership="accepted")
    others = [
        [attrs.evolve(one, owner=owner) for one in (public, community, shared, joined, private)]
        for owner in ("theirs", None)
    ]
    return [[public, community, shared, private], *others]


def names_of(entry: Mapping[str, str]) -> list[str]:
    return entry["rules"].split()


ROWS = [
    (rule, name, row)
    for entry in FACTS
    if isinstance(entry["allowed"], dict)
    for rule in names_of(entry)
    for name, row in entry["allowed"].items()
]
GENERAL = [
    (rule, entry["allowed"])
    for entry in FACTS
    if isinstance(entry["allowed"], list)
    for rule in names_of(entry)
]


@pytest.mark.parametrize(("rule", "name", "row"), ROWS)
def test_rules_about_a_target(rule: str, name: str, row: str) -> None:
    context = CALLERS[name]
    answers = [
        "".join("x" if DEFAULTS.allow(context, rule, one) else "-" for one in group)
        for group in images()
    ]
    assert " ".join(answers) == row


@pytest.mark.parametrize(("rule", "allowed"), GENERAL)
def test_rules_without_a_target(rule: str, allowed: list[str]) -> None:
    found = [name for name, context in CALLERS.items() if DEFAULTS.allow(context, rule, None)]
    assert found == allowed


def test_every_rule_is_in_the_file_once_for_every_caller() -> None:
    assert sorted((rule, name) for rule, name, _ in ROWS) == sorted(
        (rule.name, name) for rule in RULES.values() if rule.has_target for name in CALLERS
    )
    assert sorted(rule for rule, _ in GENERAL) == sorted(
        rule.name for rule in RULES.values() if not rule.has_target
    )


def test_rules_about_a_target_need_one() -> None:
    for rule in RULES.values():
        if rule.has_target:
            with pytest.raises(KeyError):
                DEFAULTS.allow(ADMIN, rule.name, None)
