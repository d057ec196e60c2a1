"""Changes of locations as pure functions; what they do over HTTP is in tests/real."""

from datetime import datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgservice.domain import locations
from imgservice.domain.errors import ImageServiceError
from imgservice.domain.image import Image, Location, Status
from imgservice.domain.limits import ImageLimits
from imgservice.domain.locations import LocationRules, Reached
from imgservice.domain.patch import Operation

RULES = LocationRules("sha512", ImageLimits(locations=3))
REACHED = {f"http://{name}/": Reached({"store": "web"}, 5) for name in "abcd"} | {
    "http://other/": Reached({"store": "web"}, 6)
}
QUEUED = Image(
    id="x",
    status=Status.QUEUED,
    created_at=datetime(2026, 1, 1),
    updated_at=datetime(2026, 1, 1),
    disk_format="raw",
    container_format="bare",
)

urls = st.sampled_from([*REACHED, "http://unknown/"])
values = st.fixed_dictionaries(
    {"url": urls, "metadata": st.sampled_from([{}, {"a": 1}, {"store": "elsewhere"}])},
    optional={
        "validation_data": st.sampled_from(
            [
                {"os_hash_algo": "sha512", "os_hash_value": digit * 128, "checksum": digit * 32}
                for digit in "01"
            ]
        )
    },
)
positions = st.sampled_from(["-", "0", "1", "2", "3", "x"])
operations = st.one_of(
    st.builds(lambda at, value: Operation("add", ("locations", at), value), positions, values),
    st.builds(lambda at: Operation("remove", ("locations", at)), positions),
    st.builds(
        lambda value: Operation("replace", ("locations",), value), st.lists(values, max_size=4)
    ),
)


@given(st.lists(operations, max_size=12))
def test_any_sequence_of_changes_keeps_the_image_valid(sequence: list[Operation]) -> None:
    image = QUEUED
    for operation in sequence:
        try:
            changed = locations.change(image, operation, REACHED, RULES)
        except ImageServiceError:
            continue
        found = [location.url for location in changed.locations]
        assert len(set(found)) == len(found)
        assert 1 <= len(found) <= 3
        assert changed.status is Status.ACTIVE
        assert {REACHED[url].size for url in found} == {changed.size}
        assert all(location.store == "web" for location in changed.locations)
        if image.status is Status.ACTIVE:
            for name in ("checksum", "os_hash_algo", "os_hash_value", "size"):
                assert getattr(changed, name) == getattr(image, name)
        image = changed


names = st.sampled_from(["url", "metadata", "validation_data", "x"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
)


@given(documents)
def test_any_document_is_a_location_or_refused(document: Any) -> None:
    try:
        found = locations.read_location(document)
        locations.read_checksums(found.checksums, "sha512")
    except ImageServiceError:
        return
    assert found.url == document["url"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/x@y", "http://h/x@y"),
        ("http://user:secret@h/x@y", "http://h/x@y"),
        ("https://secret@h:8443/", "https://h:8443/"),
        ("http://h/?a=b@c", "http://h/?a=b@c"),
        ("http://h?a@b", "http://h?a@b"),
        ("s3://KEY:SEC/RET@host/bucket/object", "s3://host/bucket/object"),
        ("s3+https://KEY:SEC%2FRET@host/bucket/object", "s3+https://host/bucket/object"),
        ("swift+https://tenant%3Auser:se/cr@et@auth/v3/c/o", "swift+https://auth/v3/c/o"),
        ("swift+config://ref/c/o", "swift+config://ref/c/o"),
        ("file:///images/a@b", "file:///images/a@b"),
        ("rbd://fsid/pool/image/snap", "rbd://fsid/pool/image/snap"),
    ],
)
def test_urls_without_their_credentials(url: str, shown: str) -> None:
    location = Location(url)
    assert location.public_url == shown
    assert "SEC" not in repr(attrs.evolve(location))
