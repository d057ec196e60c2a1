"""The URLs of Swift, and the options and files from which its accounts come."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from imgservice.config.errors import ConfigError
from imgservice.config.loader import load
from imgservice.domain.units import Secret
from imgservice.store.swift.accounts import endpoints
from imgservice.store.swift.config import AccountOptions, SwiftConfig
from imgservice.store.swift.references import read_references
from imgservice.store.swift.urls import (
    Address,
    auth_address,
    container_of,
    is_container_of,
    read_url,
    write_url,
)

IMAGE = "71c675ab-d85a-4c3b-9d4e-0f1a2b3c4d5e"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"swift+config://ref1/glance/{IMAGE}", Address("glance", IMAGE, reference="ref1")),
        (f"swift+https://host:5000/v3/glance/{IMAGE}", Address("glance", IMAGE, auth="host:5000")),
        (
            f"swift+https://p%3Au:key@Host:5000/v3/glance/{IMAGE}",
            Address("glance", IMAGE, auth="host:5000", user="p:u"),
        ),
        (
            f"swift://p:u:key@host/auth/v1.0/glance/{IMAGE}",
            Address("glance", IMAGE, auth="host/auth", user="p:u"),
        ),
        (
            f"swift+http://p%3Au:k/e@y@[2001:db8::1]:5000/v2.0/c/{IMAGE}",
            Address("c", IMAGE, auth="[2001:db8::1]:5000", user="p:u"),
        ),
    ],
)
def test_every_form_is_read(url: str, expected: Address) -> None:
    assert read_url(url) == expected
    assert "key" not in repr(read_url(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "swift://",
        "swift+config://ref1/glance",
        "swift+config://ref1//x",
        f"swift+config://u:k@ref1/glance/{IMAGE}",
        f"swift://u:k@http://host/glance/{IMAGE}",
        f"Swift://host/glance/{IMAGE}",
        "swift://host/glance/",
        "swift://host/glance/x?multipart-manifest=delete",
    ],
)
def test_other_urls_are_not(url: str) -> None:
    assert read_url(url) is None


def test_a_url_that_is_written_can_be_read() -> None:
    assert read_url(write_url("ref1", "glance", IMAGE)) == Address("glance", IMAGE, "ref1")


def test_addresses_are_the_same_whatever_the_version_of_the_api() -> None:
    assert auth_address("https://host:5000/v3/") == auth_address("http://HOST:5000/v2.0")
    assert auth_address("https://host/identity/v3") == "host/identity"
    assert auth_address("https://host/identity") != auth_address("https://host/other")


@pytest.mark.parametrize(
    ("seed", "container"),
    [
        (0, "glance"),
        (1, "glance_7"),
        (8, "glance_71c675ab"),
        (9, "glance_71c675ab-d"),
        (13, "glance_71c675ab-d85a-"),
        (32, f"glance_{IMAGE}"),
    ],
)
def test_containers_are_named_as_glance_names_them(seed: int, container: str) -> None:
    assert container_of("glance", seed, IMAGE.upper()) == container
    assert is_container_of(container, "glance", IMAGE)


@pytest.mark.parametrize("container", ["", "glanc", "glances", "glance_", "glance_8", "other"])
def test_other_containers_are_not_the_images(container: str) -> None:
    assert not is_container_of(container, "glance", IMAGE)


FILE = """
[DEFAULT]
auth_address = https://keystone:5000/v3
[ref1]
user = service:glance
key = "quoted %% key"
user_domain_name = Users
[ref2]
application_credential_id = some-id
application_credential_secret = 'some-secret'
user = ignored
key = ignored
"""


def test_accounts_come_from_the_file_of_glance(tmp_path: Path) -> None:
    file = tmp_path / "glance-swift.conf"
    file.write_text(FILE)
    accounts = SwiftConfig(references_file=str(file)).accounts()
    assert list(accounts) == ["ref1", "ref2"]
    first, second = accounts.values()
    assert (first.auth_url, first.user) == ("https://keystone:5000/v3", "service:glance")
    assert first.key == Secret("quoted % key")
    assert (first.user_domain, first.user_domain_id) == ("Users", None)
    assert (second.user, second.key) == (None, None)
    assert second.application_credential.id == "some-id"
    assert second.application_credential.secret == Secret("some-secret")


@pytest.mark.parametrize(
    "text",
    [
        "[ref1]\nauth_address = https://host\nuser = p:u\n",
        "[ref1]\nauth_address = https://host\nuser = u\nkey = hidden\n",
        '[ref1]\nauth_address = https://host\nuser = p:u\nkey = "hidden\n',
        "[ref1]\nauth_address = https://host\nuser = p:u\nkey = hidden%\n",
        "[ref1]\nuser = p:u\nkey = hidden\n",
        "[ref2]\nauth_address = https://host\nuser = p:u\nkey = hidden\n",
        "key = hidden\n",
        "[ref1]\nhidden\n",
    ],
)
def test_a_wrong_file_is_refused_without_showing_what_it_says(tmp_path: Path, text: str) -> None:
    file = tmp_path / "glance-swift.conf"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"ref1|no file of accounts") as caught:
        SwiftConfig(references_file=str(file))
    assert "hidden" not in str(caught.value)


def test_a_missing_file_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_references(str(tmp_path / "none"))


GOOD = {"type": "swift", "auth_url": "https://host:5000", "user": "p:u", "key": "hidden"}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"user": None}, "stores.objects.user"),
        ({"user": "u"}, "stores.objects.user"),
        ({"key": None}, "stores.objects.key"),
        ({"auth_url": "host"}, "stores.objects.auth_url"),
        ({"auth_url": None}, "stores.objects"),
        ({"container": "a/b"}, "stores.objects.container"),
        ({"application_credential": {"id": "x"}}, "stores.objects.application_credential.secret"),
        ({"insecure": True, "ca_file": "tests/glance.py"}, "stores.objects"),
        ({"references": {"old": {"user": "p:u"}}}, "stores.objects.references.old.auth_url"),
        ({"endpoint": "nowhere"}, "stores.objects.endpoint"),
        ({"segment_size": "6GiB"}, "stores.objects.segment_size"),
        ({"multi_tenant": True}, "stores.objects.multi_tenant"),
    ],
)
def test_mistakes_in_the_options_are_found(
    tmp_path: Path, changes: dict[str, Any], place: str
) -> None:
    options = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    file = tmp_path / "imgservice.yaml"
    file.write_text(yaml.safe_dump({"stores": {"objects": options}, "default_store": "objects"}))
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert place in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_the_endpoint_is_the_one_that_fits() -> None:
    def endpoint(interface: str, region: str, url: str) -> dict[str, str]:
        return {"interface": interface, "region_id": region, "region": region, "url": url}

    catalog = [
        {"type": "image", "endpoints": [endpoint("public", "one", "http://image")]},
        {
            "type": "object-store",
            "endpoints": [
                endpoint("internal", "one", "http://internal/"),
                endpoint("public", "one", "http://one"),
                endpoint("public", "two", "http://two"),
            ],
        },
    ]
    document = {"token": {"catalog": catalog}}
    account = AccountOptions(auth_url="https://host", user="p:u", key=Secret("hidden"))

    def found(**options: Any) -> list[str]:
        references = {"ref1": account}
        return list(endpoints(document, SwiftConfig(references=references, **options)))

    assert found() == ["http://one", "http://two"]
    assert found(region="two") == ["http://two"]
    assert found(interface="internal") == ["http://internal"]
    assert found(service_type="other") == []
