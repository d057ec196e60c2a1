"""Who may do what with which custom properties."""

import re
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgservice.domain.context import Context
from imgservice.domain.errors import Conflict, Forbidden
from imgservice.domain.image import Image, Status
from imgservice.domain.patch import Operation, Verb
from imgservice.domain.protections import (
    DEEDS,
    UNPROTECTED,
    Deed,
    Permission,
    Protected,
    Section,
    as_ruled,
    everybody,
    having_one_of,
    nobody,
)

NOW = datetime(2026, 1, 2, 3, 4, 5)
MEMBER = Context("me", "mine", frozenset({"member", "reader"}))
ANONYMOUS = Context(roles=frozenset({"member", "reader"}), read_only=True)


def section(pattern: str, **permissions: Permission) -> Section:
    """Return a section that denies what is not named."""
    return Section(re.compile(pattern), {deed: permissions.get(deed, nobody) for deed in DEEDS})


def image(**properties: str | None) -> Image:
    return Image("an-id", Status.QUEUED, NOW, NOW, owner="mine", properties=properties)


def test_the_first_section_that_knows_the_name_decides() -> None:
    rules = Protected([section("^x_y", read=everybody), section("^x", update=everybody)])
    assert rules.may(MEMBER, "read", "x_y")
    assert not rules.may(MEMBER, "update", "x_y")
    assert rules.may(MEMBER, "update", "x_z")


def test_a_pattern_is_found_anywhere_in_the_name() -> None:
    rules = Protected([section("mid", read=everybody)])
    assert rules.may(MEMBER, "read", "amidst")


@pytest.mark.parametrize("deed", DEEDS)
def test_what_no_section_knows_is_denied(deed: Deed) -> None:
    assert not Protected([section("^a$", read=everybody)]).may(MEMBER, deed, "b")
    assert not Protected([]).may(Context(is_admin=True, roles={"admin"}), deed, "b")


@pytest.mark.parametrize("deed", DEEDS)
def test_no_section_is_about_the_notes_of_the_service(deed: Deed) -> None:
    rules = Protected([section(".*")])
    assert rules.may(MEMBER, deed, "os_glance_import_task")
    assert not rules.may(MEMBER, deed, "not_os_glance_import_task")


def test_roles_are_compared_without_their_case() -> None:
    assert having_one_of(["Member"])(MEMBER)
    assert not having_one_of(["Admin"])(MEMBER)


def test_a_service_that_asks_for_somebody_brings_its_roles() -> None:
    asked = Context("me", "mine", frozenset({"member"}), service_roles=frozenset({"service"}))
    assert having_one_of(["service"])(asked)
    assert as_ruled(lambda context: context.roles == {"member", "service"})(asked)


def test_an_anonymous_caller_has_no_role() -> None:
    assert not having_one_of(["member", "reader"])(ANONYMOUS)
    assert as_ruled(lambda context: not context.roles)(ANONYMOUS)
    assert everybody(ANONYMOUS)


def test_a_rule_is_asked_with_the_context_as_it_is() -> None:
    assert as_ruled(lambda context: context is MEMBER)(MEMBER)


def test_nothing_is_copied_where_nothing_is_protected() -> None:
    properties = image(a="1").properties
    assert UNPROTECTED.readable(MEMBER, properties) is properties


def test_a_property_that_cannot_be_read_is_not_there() -> None:
    rules = Protected([section("^a$", update=everybody, delete=everybody)])
    assert rules.readable(MEMBER, {"a": "1"}) == {}
    for verb in ("replace", "remove"):
        with pytest.raises(Conflict, match="Property a does not exist"):
            rules.apply(MEMBER, image(a="1"), Operation(verb, ("a",), "2"))


def test_to_write_over_what_one_cannot_read_takes_both_rights() -> None:
    add = Operation("add", ("a",), "2")
    for rights in ({"create": everybody}, {"update": everybody}):
        with pytest.raises(Forbidden, match="Attribute 'a' is reserved"):
            Protected([section("a", **rights)]).apply(MEMBER, image(a="1"), add)
    both = Protected([section("a", create=everybody, update=everybody)])
    assert both.apply(MEMBER, image(a="1"), add).properties == {"a": "2"}


def test_a_property_without_a_value_is_protected_as_well() -> None:
    rules = Protected([section("a", read=everybody)])
    with pytest.raises(Forbidden):
        rules.apply(MEMBER, image(a=None), Operation("add", ("a",), "2"))


def test_fields_of_the_image_are_no_properties() -> None:
    renamed = Protected([section(".*")]).apply(MEMBER, image(), Operation("add", ("name",), "n"))
    assert renamed.name == "n"


PERMISSIONS = st.dictionaries(st.sampled_from(DEEDS), st.just(everybody))
NAMES = st.sampled_from(["a", "b", "name"])
OPERATIONS = st.builds(
    Operation,
    st.sampled_from(["add", "remove", "replace"]),
    st.tuples(NAMES),
    st.sampled_from(["1", "2"]),
    st.booleans(),
)


@given(
    PERMISSIONS,
    st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", None])),
    st.lists(OPERATIONS, max_size=3),
)
def test_no_sequence_of_operations_does_what_is_not_permitted(
    permissions: dict[Deed, Permission],
    before: dict[str, str | None],
    operations: Sequence[Operation],
) -> None:
    rules = Protected([section("^a$", **permissions), section("^b$")])
    after = image(**before)
    for operation in operations:
        try:
            after = rules.apply(MEMBER, after, operation)
        except (Conflict, Forbidden):
            continue
    assert after.properties.get("b") == before.get("b")
    if "a" not in before and "create" not in permissions:
        assert "a" not in after.properties
    if "a" in before and "delete" not in permissions:
        assert "a" in after.properties
        if "update" not in permissions:
            assert after.properties["a"] == before["a"]


VERBS: Sequence[Verb] = ("add", "remove", "replace")


@pytest.mark.parametrize("verb", VERBS)
def test_one_who_may_do_everything_does_as_where_nothing_is_protected(verb: Verb) -> None:
    rules = Protected([section("", **dict.fromkeys(DEEDS, everybody))])
    operation = Operation(verb, ("a",), "2")
    assert rules.apply(MEMBER, image(a="1", b="1"), operation) == UNPROTECTED.apply(
        MEMBER, image(a="1", b="1"), operation
    )
