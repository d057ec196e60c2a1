"""Common clients with real image files: what is uploaded is downloaded, with right metadata."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.real.images import KINDS, ImageFile, Kind, made, make
from tests.real.openstack import OPENSTACK, printed, with_nothing_but
from tests.real.service import Service, missing

# What the clients warn of, files left open and old words, is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


def assert_told_right(shown: Any, file: ImageFile) -> None:
    """Compare what the service says of an image with the file itself and with qemu-img."""
    data = file.data
    assert shown["status"] == "active"
    assert shown["disk_format"] == file.disk_format
    assert shown["size"] == len(data)
    assert shown["checksum"] == file.md5
    assert shown["virtual_size"] == file.virtual_size


# -- curl -----------------------------------------------------------------------------------------


def curl(*arguments: str | Path) -> bytes:
    program = shutil.which("curl")
    if program is None:
        missing("there is no curl; tests/install-packages installs it")
    command = [program, "--silent", "--show-error", "--fail-with-body", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_curl(service: Service, image_folder: Path, tmp_path: Path, kind: Kind) -> None:
    file, url = make(kind, image_folder), f"{service.client.url}/v2/images"
    fields = {"name": kind.name, "disk_format": kind.disk_format, "container_format": "bare"}
    created = json.loads(
        curl(url, "-H", "Content-Type: application/json", "-d", json.dumps(fields))
    )
    octets = "Content-Type: application/octet-stream"
    data = f"{url}/{created['id']}/file"
    curl("-X", "PUT", "-H", octets, "-T", file.path, data)
    shown = json.loads(curl(f"{url}/{created['id']}"))
    assert_told_right(shown, file)
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha512", file.sha512)
    curl("-o", tmp_path / "saved", data)
    assert (tmp_path / "saved").read_bytes() == file.data
    curl("-X", "DELETE", f"{url}/{created['id']}")


def test_curl_uploads_a_stream(service: Service, image_folder: Path) -> None:
    file = made("qcow2", image_folder)
    image_id = service.client.create(disk_format="qcow2")
    command = f"cat {file.path} | curl -sS --fail-with-body -X PUT -T - {service.client.url}"
    command += f"/v2/images/{image_id}/file -H 'Content-Type: application/octet-stream'"
    subprocess.run(command, shell=True, check=True, timeout=120)  # noqa: S602
    assert_told_right(service.client.show(image_id), file)


def test_curl_resumes_a_download(service: Service, image_folder: Path, tmp_path: Path) -> None:
    file, saved = made("raw", image_folder), tmp_path / "saved"
    image_id = service.client.active(file.data)
    saved.write_bytes(file.data[:1_000_003])
    curl("-C", "-", "-o", saved, f"{service.client.url}/v2/images/{image_id}/file")
    assert saved.read_bytes() == file.data


# -- the openstack command ------------------------------------------------------------------------


def openstack(service: Service, *arguments: str | Path) -> str:
    return printed(told(service), *arguments)


def told(service: Service) -> Mapping[str, str]:
    return {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": service.client.url}


@pytest.mark.parametrize("name", ["iso", "qcow2", "vmdk-stream", "vhdx", "raw"])
def test_openstack_creates(service: Service, image_folder: Path, name: str) -> None:
    file = made(name, image_folder)
    formats = ["--disk-format", file.disk_format, "--container-format", "bare"]
    command = ["image", "create", "--file", str(file.path), *formats, "-f", "json"]
    created = json.loads(openstack(service, *command, f"cli {name}"))
    assert_told_right(service.client.show(created["id"]), file)


def test_openstack_manages(service: Service, image_folder: Path, tmp_path: Path) -> None:
    file, saved = made("iso", image_folder), tmp_path / "saved.iso"
    name = "Grüße 世界"
    image_id = service.client.active(
        file.data, name=name, disk_format="iso", tags=["rescue"], os_distro="debian"
    )
    listed = json.loads(openstack(service, "image", "list", "--tag", "rescue", "-f", "json"))
    assert listed == [{"ID": image_id, "Name": name, "Status": "active"}]
    shown = json.loads(openstack(service, "image", "show", name, "-f", "json"))
    assert_told_right(shown, file)
    assert shown["properties"]["os_hash_value"] == file.sha512
    assert shown["properties"]["os_distro"] == "debian"
    openstack(service, "image", "save", "--file", saved, image_id)
    assert saved.read_bytes() == file.data
    openstack(service, "image", "delete", image_id)
    assert service.client.get(f"/v2/images/{image_id}").status == 404


def test_openstack_tells_of_a_refusal(service: Service, tmp_path: Path) -> None:
    """The program itself, for once: the other tests fork it."""
    fake = tmp_path / "fake.qcow2"
    fake.write_bytes(b"this is no qcow2" * 1000)
    command = ["image", "create", "--disk-format", "qcow2", "--file", str(fake), "fake"]
    environment = with_nothing_but(told(service))
    done = subprocess.run(
        [OPENSTACK, *command], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "415" in done.stderr


# -- openstacksdk ---------------------------------------------------------------------------------


@contextmanager
def sdk(service: Service) -> Iterator[Any]:
    import openstack

    connection = openstack.connect(auth_type="none", endpoint=service.client.url)
    try:
        yield connection.image
    finally:
        connection.session.session.close()
        connection.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_sdk(service: Service, image_folder: Path, tmp_path: Path, kind: Kind) -> None:
    file, saved = make(kind, image_folder), tmp_path / "saved"
    with sdk(service) as images:
        created = images.create_image(
            f"sdk {kind.name}",
            filename=str(file.path),
            disk_format=file.disk_format,
            container_format="bare",
        )
        assert_told_right(images.get_image(created.id), file)
        found = [image.id for image in images.images(name=f"sdk {kind.name}")]
        assert found == [created.id]
        images.download_image(created.id, output=str(saved))
        images.delete_image(created.id, ignore_missing=False)
        assert images.find_image(created.id) is None
    assert saved.read_bytes() == file.data


def test_sdk_pages_through_a_list(service: Service) -> None:
    made = {service.client.create(name="paged", min_ram=number) for number in range(7)}
    with sdk(service) as images:
        found = [image.id for image in images.images(name="paged", limit=3)]
    assert len(found) == 7
    assert set(found) == made


# -- python-glanceclient --------------------------------------------------------------------------


@contextmanager
def glance(service: Service) -> Iterator[Any]:
    from glanceclient import Client

    client = Client("2", endpoint=service.client.url, token="none")
    try:
        yield client.images
    finally:
        client.http_client.session.close()


@pytest.mark.parametrize("name", ["iso", "qcow2", "vmdk-sparse", "vhd", "vdi"])
def test_glanceclient(service: Service, image_folder: Path, name: str) -> None:
    file = made(name, image_folder)
    with glance(service) as images:
        created = images.create(
            name=f"glance {name}", disk_format=file.disk_format, container_format="bare"
        )
        with file.path.open("rb") as data:
            images.upload(created.id, data, image_size=len(file.data))
        assert_told_right(images.get(created.id), file)
        listed = list(images.list(filters={"name": f"glance {name}"}))
        assert [image.id for image in listed] == [created.id]
        digest = hashlib.sha512()
        for chunk in images.data(created.id):  # compares with os_hash_value itself, too
            digest.update(chunk)
        images.delete(created.id)
    assert digest.hexdigest() == file.sha512
