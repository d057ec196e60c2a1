"""URLs of locations, as releases of Glance have written them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgservice.domain.image import Location
from imgservice.domain.location_urls import ParsedLocation, is_encrypted, parse_location, public_url

ID = "b2173dd3-7ad6-4362-baa6-a68bce3565cb"
SECRET = "s3/cr+t@x"

PLACES = {
    f"file:///var/lib/images/{ID}": ParsedLocation("file", ID, "/var/lib/images"),
    f"filesystem:///srv/{ID}": ParsedLocation("file", ID, "/srv"),
    "http://web:8080/a/b.img?x=1": ParsedLocation("http", "/a/b.img?x=1", host="http://web:8080"),
    "https://u:p@web/b": ParsedLocation("http", "/b", host="https://web"),
    f"s3://s3.example/bucket/{ID}": ParsedLocation("s3", ID, "bucket", "http://s3.example"),
    f"s3+http://s3.example/bucket/{ID}": ParsedLocation("s3", ID, "bucket", "http://s3.example"),
    f"s3+https://s3.example:8443/bucket/{ID}": ParsedLocation(
        "s3", ID, "bucket", "https://s3.example:8443"
    ),
    f"s3+https://KEY:{SECRET}@s3.example/bucket/{ID}": (
        ParsedLocation("s3", ID, "bucket", "https://s3.example")
    ),
    f"rbd://fsid/pool%2Fone/{ID}/snap": ParsedLocation("rbd", ID, "pool/one", "fsid"),
    f"rbd://{ID}": ParsedLocation("rbd", ID),
    f"swift+config://ref1/glance/{ID}": ParsedLocation("swift", ID, "glance", "config://ref1"),
    f"swift+https://t%3Ax:user:{SECRET}@auth.example/v3/glance/{ID}": (
        ParsedLocation("swift", ID, "glance", "https://auth.example/v3")
    ),
    f"swift+http://auth.example:5000/v3/glance/{ID}": (
        ParsedLocation("swift", ID, "glance", "http://auth.example:5000/v3")
    ),
    f"S3://KEY:{SECRET}@s3.example/bucket/{ID}": ParsedLocation(
        "s3", ID, "bucket", "http://s3.example"
    ),
    f"swift://t:u:k@auth.example/v2.0/glance/{ID}": (
        ParsedLocation("swift", ID, "glance", "https://auth.example/v2.0")
    ),
    f"swift+https://swift.example/v1/AUTH_7/glance_{ID}/{ID}": (
        ParsedLocation("swift", ID, f"glance_{ID}", "https://swift.example/v1/AUTH_7")
    ),
    f"cinder://fast/{ID}": ParsedLocation("cinder", ID, store="fast"),
    f"cinder://{ID}": ParsedLocation("cinder", ID),
    f"vsphere://vc.example/folder/openstack_glance/{ID}?dcPath=dc%2F1&dsName=ds": (
        ParsedLocation("vmware", ID, "dc/1/ds", "vc.example")
    ),
}


@pytest.mark.parametrize("url", PLACES)
def test_every_form_is_understood(url: str) -> None:
    assert parse_location(url) == PLACES[url]


@pytest.mark.parametrize(
    "url",
    ["", "file://", "file://images/x", "s3://bucket/x", "rbd://a/b", "rbd://a//c/d", "cinder://",
     "cinder://a/b/c", "swift+config://x", "vsphere://h", "http://", "http://[::1/x", "memory://a/b",
     "swift+https:///c/o", "gAAAAABcipher=="],
)  # fmt: skip
def test_what_no_store_writes(url: str) -> None:
    assert parse_location(url) is None


@pytest.mark.parametrize("url", PLACES)
def test_no_credentials_come_through(url: str) -> None:
    found = parse_location(url)
    shown = Location(url).public_url
    assert "@" not in f"{shown}{found}{Location(url)}"
    assert SECRET not in f"{shown}{found}{Location(url)}"
    assert parse_location(shown) == found


def test_what_is_encrypted_is_no_url() -> None:
    assert is_encrypted("1VmSOXhlUKY3Sx6ESpTXYwzSEUk-b3BFPtbV_Yz3Vq4=")
    assert not any(map(is_encrypted, [*PLACES, "", "any", "x" * 40, f"{'x' * 43}:"]))


@given(st.from_regex(r"[a-z0-9+]{0,12}:?/{0,3}[ -~]{0,40}", fullmatch=True) | st.text())
def test_any_text_is_survived(url: str) -> None:
    found = parse_location(url)
    assert found is None or found.name
    scheme, _, rest = public_url(url).partition("://")
    secret = rest if scheme.lower().startswith(("s3", "swift")) else re.split("[/?#]", rest)[0]
    assert "@" not in secret
