"""What policy files may say, and what is said of mistakes in them."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_policy import policy as library

from imgservice.concurrency.file_watch import Unreadable
from imgservice.domain.context import Context
from imgservice.domain.image import Image, Status, Visibility
from imgservice.policy import checks
from imgservice.policy.effective import _NOW, Policy, default_checks, read_policy
from imgservice.policy.files import Sources
from imgservice.policy.subjects import CREDENTIALS, TargetNames, credentials
from imgservice.policy.table import RULES
from tests.examples import SHARING


def read(tmp_path: Path, text: str, **options: Any) -> Policy:
    file = tmp_path / "p"
    file.write_text(text)
    return read_policy(Sources(file), **options)


def complaint(tmp_path: Path, text: str) -> str:
    with pytest.raises(Unreadable) as caught:
        read(tmp_path, text)
    return str(caught.value).replace(str(tmp_path), "")


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("get_image: role:a\ndelete_image: 'role:a or'\n", "/p:2: delete_image: Failed to under"),
        ("get_image: role", "/p:1: get_image: Failed to understand rule role"),
        ("get_image: (role:a", "/p:1: get_image: Failed to understand rule (role:a"),
        ("get_image: rule:nowhere", "/p:1: get_image: there is no rule 'nowhere'"),
        ("get_image: rule:context_is_admn", "'context_is_admn'; did you mean context_is_admin?"),
        ("get_image: not rule:nowhere", "there is no rule 'nowhere'"),
        ("get_image: rule:get_image", "get_image: it refers to itself through 'get_image'"),
        (
            "a: rule:b\nb: role:x or rule:a\nget_image: rule:a",
            "/p:1: a: it refers to itself through 'b'",
        ),
        ("default: rule:get_task", "/p:1: default: it refers to itself through 'get_task'"),
        ("get_image: http://127.0.0.1/%(id)s", "checks that ask another server are not supported"),
        ("get_image: https://127.0.0.1/", "checks that ask another server are not supported"),
        ("get_image:", '/p:1: get_image has no check; write "" to allow everybody'),
        ("get_image: true", "/p:1: get_image: expected a check in quotes, got True"),
        ("get_image: [7]", "/p:1: get_image: expected a check in quotes, got [7]"),
        ("get_image: role:%(id)d", "/p:1: get_image: role:%(id)d cannot be decided"),
        ("get_image: 1x:%(id)s", "/p:1: get_image: 1x:%(id)s cannot be decided"),
        ("- get_image", "/p:1: expected names of rules with checks"),
        ("a: 'b\n", "/p:2: not valid YAML or JSON"),
        ('{"get_image": "role:a",\n "x" "y"}', "/p:2: not valid YAML or JSON"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, message: str, tmp_path: Path) -> None:
    assert message in complaint(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("get_image: '" + "not " * 20_000 + "role:a'", "/p:1: get_image: nested more than 50 deep"),
        ("get_image: '" + "(" * 20_000 + "role:a" + ")" * 20_000 + "'", "nested more than 50 deep"),
        (
            "get_image: '" + "(role:a or not (role:b and " * 9_000 + "@" + "))" * 9_000 + "'",
            "/p:1: get_image: nested more than 50 deep",
        ),
        ("get_image: " + "[" * 20_000, "/p:1: not valid YAML or JSON: nested more than 32 deep"),
        ("get_image:\n" + "- " * 20_000, "/p:2: not valid YAML or JSON: nested more than 32 deep"),
        ("\n".join(f"r{n}: '!'" for n in range(1001)), "/p:1001: there are more than 1000 rules"),
        (
            "\n".join(f"r{n}: role:a or rule:r{n + 1}" for n in range(900))
            + "\nr900: '@'\nget_image: rule:r0",
            "/p:902: get_image: its checks, and those it refers to, are nested more than 100 deep",
        ),
        (
            "\n".join(f"r{n}: rule:r{(n + 1) % 900}" for n in range(900)) + "\nget_image: rule:r0",
            "/p:1: r0: it refers to itself through 'r1'",
        ),
    ],
    ids=["not", "parentheses", "both", "flow", "block", "rules", "chain", "cycle"],
)
def test_what_goes_too_deep_is_a_mistake(text: str, message: str, tmp_path: Path) -> None:
    assert message in complaint(tmp_path, text)


def test_what_goes_as_deep_as_it_may(tmp_path: Path) -> None:
    nested = f"{'(not ' * 25}role:a{')' * 25}"
    chain = "\n".join(f"r{n}: role:a or rule:r{n + 1}" for n in range(48))
    wide = " or ".join(f"role:r{n}" for n in range(20_000))
    text = f"{chain}\nr48: '@'\nget_image: rule:r0\ndelete_image: {nested}\nadd_image: {wide}"
    policy = read(tmp_path, text)
    known = credentials(Context("u", "p", frozenset({"r19999"})))
    assert policy.decide["get_image"]({}, known)
    assert policy.decide["delete_image"]({}, known)
    assert policy.decide["add_image"]({}, known)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    assert complaint(tmp_path, "get_image: x\ndelete_image: y\n").count("Failed") == 2


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("get_imag: role:a", "/p:1: get_imag: no rule has this name, and none refers to it; did"),
        ("other: rule:nowhere", "/p:1: other: there is no rule 'nowhere'"),
        ("other: rule:other", "/p:1: other: it refers to itself through 'other'"),
        ("other: role:a or", "/p:1: other: Failed to understand"),
        ("get_image: is_admin:True", "/p:1: get_image: is_admin:True never holds: what is known"),
        ("get_image: tenant:%(owner)s", "tenant:%(owner)s never holds"),
        ("get_image: role:a\nget_image: role:b", "/p:2: get_image is set twice, first at "),
    ],
)
def test_what_other_releases_know_is_no_mistake(text: str, warning: str, tmp_path: Path) -> None:
    [first, *_] = read(tmp_path, text).warnings
    assert warning in first.replace(str(tmp_path), "")


def test_a_file_without_mistakes_raises_no_warnings(tmp_path: Path) -> None:
    text = "mine: project_id:%(owner)s\nget_image: rule:mine or 'public':%(visibility)s\n"
    assert read(tmp_path, text).warnings == []


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no: cannot be read: No such file or directory"):
        read_policy(Sources(tmp_path / "no"))
    with pytest.raises(Unreadable, match="no: cannot be read: No such file or directory"):
        read_policy(Sources(None, [tmp_path / "no"]))


def test_the_library_says_nothing_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        complaint(tmp_path, "get_image: role")
    assert not caplog.records


# -- what overrides what --------------------------------------------------------------------------


def test_folders_override_the_file_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "policy.d"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "c.yaml").write_text("get_image: role:deeper")
    (folder / ".hidden.yaml").write_text("get_image: role:hidden")
    (folder / "b.yaml").write_text("get_image: role:b")
    (folder / "a.json").write_text('{"get_image": "role:a", "delete_image": "role:a"}')
    (tmp_path / "p").write_text("get_image: role:p\nadd_image: role:p\ndelete_image: role:p")
    found = read_policy(Sources(tmp_path / "p", [folder]))
    texts = {name: str(found.checks[name]) for name in ("get_image", "delete_image", "add_image")}
    assert texts == {"get_image": "role:b", "delete_image": "role:a", "add_image": "role:p"}
    assert found.written["get_image"].place == f"{folder}/b.yaml:1"


def test_what_refers_to_an_overridden_rule_is_overridden_too(tmp_path: Path) -> None:
    assert read(tmp_path, "service_api: role:x").overridden == {
        "service_api",
        "add_image_location",
        "fetch_image_location",
        "stores_info_detail",
    }
    assert "fetch_image_location" not in read(tmp_path, "context_is_admin: role:x").overridden
    assert read(tmp_path, "manage_image_cache: '!'").overridden == {"manage_image_cache"}


def test_saying_the_default_is_not_overriding(tmp_path: Path) -> None:
    text = "".join(f"{rule.name}: {json.dumps(rule.check)}\n" for rule in RULES.values())
    assert read(tmp_path, text).overridden == set()


def test_checks_are_written_as_they_are_read() -> None:
    for check in default_checks().values():
        assert str(checks.parse(checks.write(check))) == str(check)


# -- as the library decides -----------------------------------------------------------------------


def enforcer(folder: Path, new_defaults: bool) -> library.Enforcer:
    """Return the library's own object for the same files."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[str(folder)])
    found = library.Enforcer(conf, policy_file=str(folder / "policy.yaml"))
    conf.set_override("policy_dirs", [str(folder / "policy.d")], "oslo_policy")
    conf.set_override("enforce_new_defaults", new_defaults, "oslo_policy")
    found.suppress_deprecation_warnings = found.suppress_default_change_warnings = True
    for rule in RULES.values():
        former = rule.deprecated and library.DeprecatedRule(
            rule.name, rule.deprecated, deprecated_reason="-", deprecated_since="-"
        )
        found.register_default(
            library.RuleDefault(rule.name, rule.check, deprecated_rule=former or None)
        )
    return found


LEAVES = st.sampled_from(
    ["role:member", "role:READER", "rule:context_is_admin", "rule:default", "rule:mine", "@", "!",
     "project_id:%(owner)s", "project_id:%(member_id)s", "'public':%(visibility)s",
     "None:%(owner)s", "'red':%(colour)s", "user_id:somebody", "roles:member",
     "system_scope:all", "role:%(colour)s", "not role:member", "tenant:%(owner)s",
     "True:%(protected)s", "service_roles:service"]
)  # fmt: skip
CHECKS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda one, word, other: f"({one} {word} {other})",
        inner,
        st.sampled_from(["and", "or"]),
        inner,
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(sorted(RULES.keys() - {"context_is_admin", "default"}))
FILES = st.dictionaries(NAMES, CHECKS | st.just(""), max_size=4)
IMAGES = st.builds(
    Image,
    id=st.just("an-id"),
    status=st.sampled_from(Status),
    created_at=st.just(_NOW),
    updated_at=st.just(_NOW),
    owner=st.sampled_from(["ours", "theirs", None]),
    visibility=st.sampled_from(Visibility),
    protected=st.booleans(),
    properties=st.sampled_from([{}, {"colour": "red"}, {"colour": None}, {"colour": "member"}]),
)
CALLERS = st.builds(
    Context,
    user=st.sampled_from(["somebody", None]),
    project=st.sampled_from(["ours", "theirs"]),
    roles=st.frozensets(st.sampled_from(["admin", "member", "reader", "red"])),
    system_scope=st.sampled_from([None, "all"]),
    service_roles=st.sampled_from([frozenset(), frozenset({"service"})]),
)


@settings(suppress_health_check=SHARING, deadline=None)
@given(file=FILES, more=FILES, new=st.booleans(), caller=CALLERS, image=IMAGES)
def test_every_rule_is_decided_as_by_the_library(
    file: dict[str, str],
    more: dict[str, str],
    new: bool,
    caller: Context,
    image: Image,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "policy.d"
    folder.mkdir(exist_ok=True)
    (tmp_path / "policy.yaml").write_text(json.dumps({"mine": "project_id:%(owner)s", **file}))
    (folder / "more.json").write_text(json.dumps(more))
    found = read_policy(Sources(tmp_path / "policy.yaml", [folder]), new)
    theirs = enforcer(tmp_path, new)
    target = TargetNames(caller, image)
    for name in RULES:
        expected = theirs.enforce(name, target, credentials(caller))
        assert found.decide[name](target, credentials(caller)) is bool(expected), name


def test_known_credentials_are_those_that_are_given() -> None:
    everything = Context(
        "u", "p", frozenset({"r"}), user_domain="d", project_domain="d", system_scope="all",
        domain="d", service_user="s", service_roles=frozenset({"s"}),
    )  # fmt: skip
    assert set(credentials(everything)) == set(CREDENTIALS)


def test_an_image_has_no_names_but_these() -> None:
    image = Image("an-id", Status.ACTIVE, _NOW, _NOW, properties={"colour": "red"})
    target = TargetNames(Context(project="ours"), image)
    assert {name: target[name] for name in target}["colour"] == "red"
    assert len(list(target)) == len(target)
    with pytest.raises(KeyError):
        target["locations"]


def test_every_rule_says_what_it_is_about() -> None:
    for rule in RULES.values():
        assert rule.about.endswith(".")
        assert all(re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE) /v2/\S+", o) for o in rule.operations)


def test_the_reference_has_every_rule_with_its_default() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "policies.md").read_text()
    for rule in RULES.values():
        check = f"`{rule.check}`" if rule.check else "everybody"
        assert f"| `{rule.name}` | {check} | " in reference
    for name in CREDENTIALS:
        assert f"`{name}`" in reference or name == "system"
