"""Text that cannot be stored gets into no value that the services record."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from imgservice.domain.errors import Forbidden, Invalid
from imgservice.domain.member import read_project
from imgservice.domain.new_image import NewImage
from imgservice.domain.patch import Operation
from imgservice.domain.storable import LONGEST_NAME, check_storable

EMOJI = "\U0001f600"
TOO_LONG = "x" * (LONGEST_NAME + 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", None),
        ("name", "\uffff" * LONGEST_NAME),
        ("tags", ["a", "\n"]),
        ("tags", ()),
        ("min_disk", 5),
        ("x" * LONGEST_NAME, "y" * 70_000),
        ("", ""),
    ],
)
def test_what_can_be_stored(name: str, value: object) -> None:
    check_storable(name, value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("name", EMOJI, "Name can't contain 4 byte unicode characters."),
        ("tags", ["a", "b\0"], "Tags can't contain null characters."),
        ("tags", ("a", TOO_LONG), "Tags can't be longer than 255 characters."),
        ("owner", TOO_LONG, "Owner can't be longer than 255 characters."),
        ("os", EMOJI + "\0", "Property 'os' can't contain null characters."),
        (EMOJI, "x", "Property '\\U0001f600' can't contain 4 byte unicode characters."),
        (TOO_LONG, "x", f"The property name '{'x' * 40}'... is longer than 255 characters."),
    ],
)
def test_what_cannot(name: str, value: object, message: str) -> None:
    with pytest.raises(Invalid, match=f"^{re.escape(message)}$"):
        check_storable(name, value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NewImage(name=EMOJI),
        lambda: NewImage(tags=["a", "\0"]),
        lambda: NewImage(owner=TOO_LONG),
        lambda: NewImage(properties={"os": EMOJI}),
        lambda: NewImage(properties={TOO_LONG: "x"}),
        lambda: Operation("add", ("os",), EMOJI),
        lambda: Operation("replace", ("tags",), ["a", EMOJI]),
        lambda: read_project("\0"),
    ],
)
def test_no_value_has_such_text(make: Callable[[], Any]) -> None:
    with pytest.raises(Invalid):
        make()


def test_what_was_stored_can_be_removed() -> None:
    """Other programs may have stored it, where the database could."""
    assert Operation("remove", (EMOJI,)).name == EMOJI


@pytest.mark.parametrize("name", ["status", "self", "locations", "deleted", "os_glance_x"])
def test_no_property_has_a_reserved_name(name: str) -> None:
    with pytest.raises(Forbidden, match=f"^Attribute '{name}' is (read-only|reserved).$"):
        NewImage(properties={name: "x"})
