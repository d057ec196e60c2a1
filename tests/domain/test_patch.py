"""Patches: how they are read, and that no sequence of them leaves an image that cannot be."""

import re
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.domain import patch
from imgservice.domain.context import Context
from imgservice.domain.documents import Json
from imgservice.domain.errors import Conflict, Forbidden, ImageServiceError, Invalid
from imgservice.domain.image import Image, Status, Visibility
from imgservice.domain.limits import LARGEST_INTEGER, ImageLimits, bounded, check_count
from imgservice.domain.names import IMAGE_FIELDS, check_name
from imgservice.domain.patch import Operation, read_current, read_draft, split_pointer
from imgservice.domain.protections import DEEDS, UNPROTECTED, Protected, Section, everybody

NOW = datetime(2026, 1, 2, 3, 4, 5)
QUEUED = Image("an-id", Status.QUEUED, NOW, NOW, tags=("t",), properties={"os": "x", "old": None})

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
POINTERS = st.text("/~01a \t-", max_size=8) | st.text(max_size=8) | JSON
CHANGES = st.lists(
    st.dictionaries(
        st.sampled_from(["op", "path", "value", "add", "remove", "replace"]),
        st.sampled_from([*patch.VERBS, "test"]) | POINTERS,
    )
    | JSON,
    max_size=3,
)


def as_it_is(path: tuple[str, ...], value: Any) -> Any:
    return value


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pointer", "path"),
    [
        ("/name", ("name",)),
        ("/", ("",)),
        ("/a~1b", ("a/b",)),
        ("/a~0b", ("a~b",)),
        ("/~01", ("~1",)),
        ("/ baz ", ("baz",)),
        ("/locations/-", ("locations", "-")),
        ("/ a / b ", ("a", "b")),
    ],
)
def test_pointers_are_split(pointer: str, path: tuple[str, ...]) -> None:
    assert split_pointer(pointer) == path


@pytest.mark.parametrize(
    "pointer", ["", "name", "//", "/foo/", "/a// b", "/a/ /b", "/a~2", "/a~", 5, None, ["/a"]]
)
def test_pointers_that_are_none(pointer: Any) -> None:
    with pytest.raises(Invalid):
        split_pointer(pointer)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1).filter(lambda t: t == t.strip()), min_size=1))
def test_whatever_is_escaped_is_found_again(parts: list[str]) -> None:
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
    assert split_pointer(pointer) == tuple(parts)


@pytest.mark.parametrize(
    ("verb", "pointer", "fits"),
    [
        ("replace", "/locations", True),
        ("replace", "/locations/0", False),
        ("add", "/locations/-", True),
        ("add", "/locations", False),
        ("remove", "/locations/0", True),
        ("remove", "/locations", False),
        ("add", "/tags/-", False),
        ("replace", "/a/b", False),
        ("add", "/locations/0/url", False),
    ],
)
def test_only_locations_have_a_second_level(verb: str, pointer: str, fits: bool) -> None:
    document: Json = [{"op": verb, "path": pointer, "value": "x"}]
    if fits:
        [operation] = read_current(document, as_it_is)
        assert operation.path == split_pointer(pointer)
    else:
        with pytest.raises(Invalid, match="Invalid JSON pointer"):
            list(read_current(document, as_it_is))


@pytest.mark.parametrize(
    "change",
    [
        {"op": "test", "path": "/a", "value": "x"},
        {"op": "move", "path": "/a", "from": "/b"},
        {"op": "REPLACE", "path": "/a", "value": "x"},
        {"op": ["add"], "path": "/a", "value": "x"},
        {"op": "replace", "path": "/a"},
        {"op": "replace", "value": "x"},
        {"path": "/a", "value": "x"},
        "replace",
        None,
    ],
)
def test_changes_that_are_none(change: Any) -> None:
    with pytest.raises(Invalid):
        list(read_current([change], as_it_is))


def test_the_older_form() -> None:
    found = list(read_draft([{"replace": "/name", "value": 1}, {"remove": "/a~1b"}], as_it_is))
    assert found == [
        Operation("replace", ("name",), 1, strict=True),
        Operation("remove", ("a/b",), strict=True),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "x"}, "exactly one"),
        ({"add": "/a", "replace": "/b", "value": "x"}, "only one"),
        ({"add": "/a"}, 'a member named "value"'),
    ],
)
def test_mistakes_in_the_older_form(change: Any, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        list(read_draft([change], as_it_is))


@settings(deadline=None)
@given(CHANGES | JSON)
def test_any_document_is_read_or_refused(document: Any) -> None:
    for read in (read_current, read_draft):
        try:
            operations = list(read(document, as_it_is))
        except (Invalid, Forbidden) as error:
            assert len(error.message) < 300
        else:
            assert all(isinstance(each, Operation) and each.path for each in operations)


@pytest.mark.parametrize("name", ["id", "status", "size", "self", "created_at", "direct_url"])
def test_what_is_read_only(name: str) -> None:
    with pytest.raises(Forbidden, match="read-only"):
        check_name(name)


@pytest.mark.parametrize("name", ["location", "deleted", "deleted_at", "os_glance", "os_glance_x"])
def test_what_is_reserved(name: str) -> None:
    with pytest.raises(Forbidden, match="reserved"):
        check_name(name)


# -- applying -------------------------------------------------------------------------------------


def applied(*operations: Operation, image: Image = QUEUED) -> Image:
    image = patch.begin(image)
    for operation in operations:
        image = patch.apply(image, operation)
    return image


def test_properties_come_change_and_go() -> None:
    image = applied(
        Operation("add", ("new",), "1"),
        Operation("replace", ("os",), "y"),
        Operation("remove", ("old",)),
    )
    assert image.properties == {"os": "y", "new": "1"}
    assert QUEUED.properties == {"os": "x", "old": None}


def test_adding_overwrites_unless_it_is_strict() -> None:
    assert applied(Operation("add", ("os",), "y")).properties["os"] == "y"
    assert applied(Operation("add", ("name",), "n")).name == "n"
    for name in ("os", "name"):
        with pytest.raises(Conflict, match="already present"):
            applied(Operation("add", (name,), "y", strict=True))


@pytest.mark.parametrize("verb", ["remove", "replace"])
def test_what_is_not_there(verb: patch.Verb) -> None:
    with pytest.raises(Conflict, match="Property nope does not exist"):
        applied(Operation(verb, ("nope",), "x"))


@pytest.mark.parametrize("name", sorted(IMAGE_FIELDS))
def test_fields_stay(name: str) -> None:
    with pytest.raises(Forbidden, match="may not be removed"):
        applied(Operation("remove", (name,)))


def test_tags_are_a_set() -> None:
    assert applied(Operation("replace", ("tags",), ["b", "a", "b"])).tags == ("a", "b")


def test_nobody_makes_stores_up() -> None:
    with pytest.raises(Forbidden):
        applied(Operation("add", ("stores",), "x"))


@pytest.mark.parametrize("status", list(Status))
def test_formats_change_only_while_there_is_no_data(status: Status) -> None:
    image = Image("an-id", status, NOW, NOW, disk_format="raw")
    operation = Operation("replace", ("disk_format",), "qcow2")
    if status in (Status.QUEUED, Status.IMPORTING):
        assert patch.apply(image, operation).disk_format == "qcow2"
    else:
        with pytest.raises(Forbidden, match="only replaced for a queued image"):
            patch.apply(image, operation)


@pytest.mark.parametrize("value", [-1, LARGEST_INTEGER + 1, 1e23])
def test_numbers_that_do_not_fit(value: float) -> None:
    with pytest.raises(Invalid):
        applied(Operation("replace", ("min_ram",), value))


def test_a_whole_number_may_have_a_point() -> None:
    assert repr(bounded("min_disk", 3.0)) == "3"


# Glance's tables in MySQL hold no others.
TEXT = st.text(
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0"),
    max_size=4,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.none() | TEXT,
    "owner": st.none() | TEXT,
    "visibility": st.sampled_from([each.value for each in Visibility]),
    "protected": st.booleans(),
    "os_hidden": st.booleans(),
    "disk_format": st.sampled_from([None, "raw", "qcow2"]),
    "container_format": st.sampled_from([None, "bare"]),
    "min_disk": st.integers(-2, 1 << 40),
    "min_ram": st.integers(-2, 1 << 40),
    "tags": st.lists(st.sampled_from("abc")),
}
NAMES = st.sampled_from([*VALUES, "os", "old", "new", "stores", ""])


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    """Draw an operation whose value the schema allows."""
    name = draw(NAMES)
    value = draw(VALUES.get(name, TEXT))
    return Operation(draw(st.sampled_from(patch.VERBS)), (name,), value, draw(st.booleans()))


@settings(deadline=None)
@given(st.lists(operations()), st.sampled_from(list(Status)))
def test_an_image_stays_valid_whatever_is_done_to_it(
    steps: list[Operation], status: Status
) -> None:
    image = start = Image("an-id", status, NOW, NOW, disk_format="raw", properties={"os": "x"})
    for step in steps:
        try:
            image = patch.apply(image, step)
        except ImageServiceError:
            continue
        assert 0 <= image.min_disk <= LARGEST_INTEGER and 0 <= image.min_ram <= LARGEST_INTEGER
        assert isinstance(image.visibility, Visibility)
        assert list(image.tags) == sorted(set(image.tags))
        assert not {*IMAGE_FIELDS, "stores"} & image.properties.keys()
        assert (image.id, image.status, image.size) == (start.id, start.status, start.size)
        if status not in (Status.QUEUED, Status.IMPORTING):
            assert image.disk_format == "raw"


@pytest.mark.parametrize("is_protected", [False, True])
def test_cost_grows_with_the_number_of_operations(is_protected: bool) -> None:
    everything = Section(re.compile("."), dict.fromkeys(DEEDS, everybody))
    rules = Protected([everything]) if is_protected else UNPROTECTED
    names = [f"p{number}" for number in range(12_000)]
    for name in names:  # the names themselves are looked up before
        rules.may(Context(), "read", name)

    def cost(count: int) -> float:
        image = patch.begin(Image("an-id", Status.QUEUED, NOW, NOW))
        start = time.thread_time()
        for name in names[:count]:
            image = rules.apply(Context(), image, Operation("add", (name,), "v"))
        assert len(image.properties) == count
        return time.thread_time() - start

    assert any(cost(12_000) < 24 * cost(1_500) for _ in range(5))


# -- limits ---------------------------------------------------------------------------------------


def test_limits() -> None:
    limits = ImageLimits(properties=1, tags=2)
    limits.check_properties(["a", "os_glance_x", "os_glance_y"])
    limits.check_tags("ab")
    for check in (limits.check_properties, limits.check_tags):
        with pytest.raises(ImageServiceError, match="Attempted: 3"):
            check(["a", "b", "c"])
    check_count("anything", 10**6, -1)
    with pytest.raises(ImageServiceError):
        check_count("anything", 1, 0)


def test_lengths_of_values() -> None:
    limits = ImageLimits(property_value=10)
    limits.check_values({"a": "x" * 10, "b": None, "os_glance_x": "x" * 11}, {})
    limits.check_values({"a": "x" * 11}, {"a": "x" * 11})  # it was there before the limit
    for value, length in (("x" * 11, 11), ("ä" * 6, 12), ("\uffff" * 4, 12)):
        wanted = f"property 'a' is {length} bytes long; at most 10"
        with pytest.raises(ImageServiceError, match=wanted):
            limits.check_values({"a": value}, {"a": "y" * 11})
    limits.check_metadata({"a": "bc"})
    with pytest.raises(ImageServiceError, match="metadata of a location is 11 bytes long"):
        limits.check_metadata({"a": "bcd"})
    ImageLimits(property_value=0).check_values({"a": "x" * 10**6}, {})
