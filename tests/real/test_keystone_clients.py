"""The openstack command with a real Keystone, its accounts from clouds.yaml."""

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.keystone import Keystone
from tests.real.openstack import openstack
from tests.real.service import Service, running

# What the clients warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def service(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service"), {"auth": keystone.auth()}) as started:
        yield started


@pytest.fixture(scope="module")
def clouds(keystone: Keystone, service: Service) -> Path:
    return keystone.clouds(service.directory / "clouds.yaml", service.client.url)


def run(clouds: Path, cloud: str, *arguments: str | Path) -> CompletedProcess[str]:
    environment = {"OS_CLIENT_CONFIG_FILE": str(clouds)}
    return openstack(environment, "--os-cloud", cloud, "image", *arguments)


def image(clouds: Path, cloud: str, *arguments: str | Path) -> str:
    done = run(clouds, cloud, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_password_and_application_credential(
    keystone: Keystone, clouds: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"some data" * 1000)
    made = json.loads(image(clouds, "demo", "create", "--file", data, "-f", "json", "mine"))
    assert made["owner"] == keystone.projects["demo"]
    listed = json.loads(image(clouds, "application", "list", "-f", "json"))
    assert listed == [{"ID": made["id"], "Name": "mine", "Status": "active"}]
    shown = json.loads(image(clouds, "application", "show", "-f", "json", made["id"]))
    assert shown["size"] == 9000
    assert json.loads(image(clouds, "alt", "list", "-f", "json")) == []
    image(clouds, "application", "save", "--file", tmp_path / "saved", made["id"])
    assert (tmp_path / "saved").read_bytes() == data.read_bytes()
    refused = run(clouds, "reader", "delete", made["id"])
    assert (refused.returncode != 0, "403" in refused.stderr) == (True, True)
    image(clouds, "application", "delete", made["id"])


def test_system_scope(clouds: Path) -> None:
    """Images are a project's affair: to the whole system all rules say no, as with Glance."""
    refused = run(clouds, "system", "list")
    assert (refused.returncode != 0, "403" in refused.stderr) == (True, True)
