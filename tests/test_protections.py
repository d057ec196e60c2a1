"""The file that protects properties: what is read from it, as Glance reads it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from imgservice.concurrency.file_watch import Unreadable
from imgservice.domain.context import Context
from imgservice.domain.protections import DEEDS, Permission, Protected
from imgservice.policy.property_protections import (
    policies_permission,
    read_protections,
    roles_permission,
)

ALL = "create = @\nread = @\nupdate = @\ndelete = @\n"
NOBODY = Context()
ADMIN = Context(roles=frozenset({"admin"}))


def read(directory: Path, text: str) -> Protected:
    file = directory / "protections.conf"
    file.write_text(text, encoding="utf-8")
    return read_protections(file, roles_permission)


def rights(rules: Protected, name: str, context: Context = NOBODY) -> str:
    return " ".join(deed for deed in DEEDS if rules.may(context, deed, name))


EVERYTHING = "create read update delete"


@pytest.mark.parametrize(
    "text",
    [
        f"[a]\n{ALL}",
        f"[DEFAULT]\n{ALL}[a]\n",
        "[a]\nCREATE = @\nRead = @\nupdate = @\ndelete = @\n",
        "[a]\ncreate: @\nread:@\nupdate : @\ndelete=@\n",
        f"[a]\n{ALL}share = nobody knows what\n",
        f"[^[a-z]$]\n{ALL}",
        f"# a comment\n; another\n\n[a]\n# and one\n{ALL}",
        "[a]\ncreate = x,@\nread = @,\nupdate = x,\n  @\ndelete = @\n",
    ],
)
def test_glances_ways_to_write_it(tmp_path: Path, text: str) -> None:
    assert rights(read(tmp_path, text), "a") == EVERYTHING


def test_nobody_and_nothing_let_nobody(tmp_path: Path) -> None:
    rules = read(tmp_path, "[a]\ncreate = !\nread = !,admin\nupdate =\ndelete = ,\n")
    assert rights(rules, "a", ADMIN) == ""


def test_a_comment_behind_a_value_is_part_of_it(tmp_path: Path) -> None:
    rules = read(tmp_path, "[a]\ncreate = @ # all\nread = @\nupdate = admin\ndelete = @\n")
    assert rights(rules, "a") == "read delete"


def test_an_empty_file_denies_everything(tmp_path: Path) -> None:
    assert rights(read(tmp_path, ""), "a", ADMIN) == ""


def test_sections_about_the_notes_of_the_service_are_ignored(tmp_path: Path) -> None:
    rules = read(tmp_path, "[os_glance_x]\nread = nonsense (\n")
    assert rights(rules, "os_glance_x") == EVERYTHING


def test_a_percent_sign_is_doubled(tmp_path: Path) -> None:
    rules = read(tmp_path, "[a]\ncreate = 50%%\nread = @\nupdate = @\ndelete = @\n")
    assert rights(rules, "a", Context(roles=frozenset({"50%"}))) == EVERYTHING


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (f"[a]\n{ALL}\n[b]\nread = @\n", 7, "[b] does not say who may create"),
        (f"[a]\n{ALL.replace('update = @', 'update = @,!')}", 4, "[a] update: @ (everybody) and !"),
        (f"[DEFAULT]\ncreate=@,!\n[a]\n{ALL.replace('create = @', '')}", 3, "[a] create: @ (every"),
        (f"\ufeff[a]\n{ALL}", 1, "expected a section"),
        (f"[+]\n{ALL}", 1, "[+] is not a regular expression"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, line: int, told: str) -> None:
    with pytest.raises(Unreadable) as failed:
        read(tmp_path, text)
    assert str(failed.value).startswith(f"{tmp_path / 'protections.conf'}:{line}: {told}")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"[\xff]")
    with pytest.raises(Unreadable, match=r"file: cannot be read: not UTF-8"):
        read_protections(tmp_path / "file", roles_permission)


# -- by policies ----------------------------------------------------------------------------------

RULES: Mapping[str, Permission] = {"admins": lambda context: "admin" in context.roles}


def find(name: str) -> Permission:
    if name not in RULES:
        raise ValueError(f"the policy has no rule {name!r}")
    return RULES[name]


def test_a_rule_of_the_policy_decides() -> None:
    permission = policies_permission(find)("admins")
    assert permission(ADMIN)
    assert not permission(NOBODY)


@pytest.mark.parametrize(("text", "allowed"), [("@", True), ("!", False), ("", False)])
def test_signs_mean_the_same_as_with_roles(text: str, allowed: bool) -> None:
    assert policies_permission(find)(text)(ADMIN) is allowed


@pytest.mark.parametrize("text", ["admins,others", "@,!", "others"])
def test_only_one_rule_that_there_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected one rule|has no rule"):
        policies_permission(find)(text)
