"""`imgservice convert-config` with stores in Swift."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.test_convert import LEAST, Lab, comments, lab

__all__ = ["lab"]

BACKEND = "[DEFAULT]\nenabled_backends = objects:swift\n[glance_store]\ndefault_backend = objects\n"
ACCOUNT = """
[objects]
swift_store_auth_address = https://keystone:5000/v3
swift_store_user = service:glance
swift_store_key = hush
"""
EXPECTED = {
    "type": "swift",
    "auth_url": "https://keystone:5000/v3",
    "user": "service:glance",
    "key": "hush",
}


def converted(lab: Lab, text: str) -> Any:
    return lab.convert(BACKEND + text)["stores"]["objects"]


def test_an_account_in_the_options(lab: Lab) -> None:
    assert converted(lab, ACCOUNT) == EXPECTED
    found = lab.convert(f"[glance_store]\nstores = swift\n{ACCOUNT.partition(']')[2]}")
    assert found["stores"] == {"swift": EXPECTED}
    assert (found["default_store"], found["single_store"]) == ("swift", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("container = images", {"container": "images"}),
        ("multiple_containers_seed = 3", {"container_seed": 3}),
        ("create_container_on_put = true", {"create_container": True}),
        ("region = one", {"region": "one"}),
        ("endpoint = https://swift/v1/AUTH_1", {"endpoint": "https://swift/v1/AUTH_1"}),
        ("endpoint_type = internalURL", {"interface": "internal"}),
        ("service_type = store", {"service_type": "store"}),
        ("large_object_size = 5120", {"segment_from": 5_242_880_000}),
        ("large_object_size = 0", {"segment_from": 1}),
        ("large_object_size = 99999", {"segment_from": 5 << 30}),
        ("large_object_chunk_size = 200", {"segment_size": 204_800_000}),
        ("retry_get_count = 7", {"read_retries": 7}),
        ("expire_soon_interval = 90", {"token_margin": 90}),
        ("auth_insecure = true", {"insecure": True}),
        ("multi_tenant = false", {}),
        ("auth_version = 3", {}),
        ("ssl_compression = false", {}),
        ("admin_tenants = one", {}),
    ],
)
def test_options(lab: Lab, text: str, expected: dict[str, Any]) -> None:
    assert converted(lab, f"{ACCOUNT}swift_store_{text}\n") == {**EXPECTED, **expected}


def test_an_application_credential_stands_before_a_user(lab: Lab) -> None:
    text = (
        "swift_store_application_credential_id = some-id\n"
        "swift_store_application_credential_secret = secret\nswift_buffer_on_upload = true\n"
    )
    assert converted(lab, ACCOUNT + text) == {
        "type": "swift",
        "auth_url": "https://keystone:5000/v3",
        "application_credential": {"id": "some-id", "secret": "secret"},
    }


def test_a_file_of_accounts(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "glance-swift.conf"
    file.write_text("[other]\nauth_address = https://host\nuser = p:u\nkey = hush\n")
    text = f"{ACCOUNT}default_swift_reference = other\nswift_store_config_file = {file}\n"
    assert converted(lab, text) == {
        "type": "swift",
        "reference": "other",
        "references_file": str(file),
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[objects]\n", "needs swift_store_config_file or swift_store_auth_address"),
        (f"{ACCOUNT}swift_store_endpoint_type = any\n", "expected publicURL"),
        (ACCOUNT.replace("service:glance", "glance"), "must be the project and the name"),
        ("[objects]\nswift_store_config_file = FILE\n", "has no section 'ref1'"),
    ],
)
def test_mistakes(lab: Lab, tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "glance-swift.conf"
    file.write_text("[other]\nauth_address = https://host\nuser = p:u\nkey = hush\n")
    found = lab.run(f"{LEAST}{BACKEND}{text.replace('FILE', str(file))}")
    assert found.exit_code not in (0, 3)
    assert complaint in found.stderr
    assert "hush" not in found.stderr


def test_accounts_of_users_are_not_possible(lab: Lab) -> None:
    found = lab.run(f"{LEAST}{BACKEND}{ACCOUNT}swift_store_multi_tenant = True\n")
    assert found.exit_code == 3
    assert "in the accounts of users (swift_store_multi_tenant): objects" in found.stderr
    assert "[objects] swift_store_multi_tenant = True" in comments(found)
    assert yaml.safe_load(found.stdout)["default_store"] == "local"
