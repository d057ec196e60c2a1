"""Image files that must be refused: nothing of them stays, and a correct retry works."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.real.client import Client, receive
from tests.real.images import made, qemu_img
from tests.real.service import Service


@attrs.frozen
class Refused:
    """A way to make a file that is refused when uploaded as `disk_format`."""

    name: str
    disk_format: str
    make: Callable[[Path, Path], None]
    """Writes the file to the first path; the second is a folder for what it needs beside."""


def backed(path: Path, folder: Path) -> None:
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path, "1M")


def backed_by_json(path: Path, folder: Path) -> None:
    base = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": "/etc/passwd"}})
    qemu_img("create", "-u", "-f", "qcow2", "-F", "raw", "-b", f"json:{base}", path, "1M")


def with_data_file(path: Path, folder: Path) -> None:
    options = f"data_file={folder / 'data'},data_file_raw=on"
    qemu_img("create", "-f", "qcow2", "-o", options, path, "1M")


def with_unknown_feature(path: Path, folder: Path) -> None:
    qemu_img("create", "-f", "qcow2", path, "1M")
    with path.open("r+b") as file:
        file.seek(72)  # the header's bits of features that a reader must know
        file.write(struct.pack(">Q", 1 << 62))


def flat_vmdk(path: Path, folder: Path) -> None:
    qemu_img("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", path, "1M")


def vmdk_descriptor_of_a_device(path: Path, folder: Path) -> None:
    path.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        'createType="monolithicFlat"\n\nRW 2048 FLAT "/etc/passwd" 0\n' + "\n" * 512
    )


def split_vmdk(path: Path, folder: Path) -> None:
    qemu_img("create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", path, "1M")


def kind(name: str) -> Callable[[Path, Path], None]:
    """Take a good file, to be declared as something else."""

    def copy(path: Path, folder: Path) -> None:
        shutil.copy(made(name, folder).path, path)

    return copy


def text(path: Path, folder: Path) -> None:
    path.write_bytes(b"no image of any kind, only words " * 10_000)


def cut_short(path: Path, folder: Path) -> None:
    path.write_bytes(b"QFI\xfb")


def empty(path: Path, folder: Path) -> None:
    path.write_bytes(b"")


def qed(path: Path, folder: Path) -> None:
    qemu_img("create", "-f", "qed", path, "1M")


def with_virtual_size(name: str, offset: int, code: str, size: int) -> Callable[[Path, Path], None]:
    """Take a good file and write another virtual size into its head."""

    def change(path: Path, folder: Path) -> None:
        kind(name)(path, folder)
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(struct.pack(code, size))

    return change


VIRTUAL_SIZES = {
    "qcow2": ("qcow2", 24, ">Q", 1),
    "vhd": ("vhd", 40, ">Q", 1),
    "vmdk": ("vmdk-sparse", 12, "<Q", 512),
    "vdi": ("vdi", 0x170, "<Q", 1),
}
"""By disk format: a kind, where its head has the virtual size, how, and in units of what."""
TOO_LARGE = [
    Refused(f"{disk_format}-of-{size:#x}", disk_format,
            with_virtual_size(name, offset, code, size // unit))
    for disk_format, (name, offset, code, unit) in VIRTUAL_SIZES.items()
    for size in (1 << 63, (1 << 64) - 512)
]  # fmt: skip
REFUSED = (
    *TOO_LARGE,
    Refused("qcow2-backing-file", "qcow2", backed),
    Refused("qcow2-backing-json", "qcow2", backed_by_json),
    Refused("qcow2-data-file", "qcow2", with_data_file),
    Refused("qcow2-unknown-feature", "qcow2", with_unknown_feature),
    Refused("vmdk-flat", "vmdk", flat_vmdk),
    Refused("vmdk-of-a-device", "vmdk", vmdk_descriptor_of_a_device),
    Refused("vmdk-split", "vmdk", split_vmdk),
    Refused("text-as-qcow2", "qcow2", text),
    Refused("text-as-iso", "iso", text),
    Refused("text-as-vmdk", "vmdk", text),
    Refused("text-as-vhdx", "vhdx", text),
    Refused("text-as-vhd", "vhd", text),
    Refused("text-as-vdi", "vdi", text),
    Refused("iso-as-qcow2", "qcow2", kind("iso")),
    Refused("qcow2-as-iso", "iso", kind("qcow2")),
    Refused("qcow2-as-vmdk", "vmdk", kind("qcow2")),
    Refused("vmdk-as-vdi", "vdi", kind("vmdk-sparse")),
    Refused("vhdx-as-vhd", "vhd", kind("vhdx")),
    Refused("vdi-as-vhdx", "vhdx", kind("vdi")),
    Refused("cut-short-qcow2", "qcow2", cut_short),
    Refused("empty-qcow2", "qcow2", empty),
    Refused("qcow2-with-backing-as-raw", "raw", backed),
    Refused("qed-as-qcow2", "qcow2", qed),
    Refused("qed-as-raw", "raw", qed),
)
GOOD = {"vmdk": "vmdk-sparse"}
"""The kind of good file for a declared format, where the name is another."""


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.name)
def test_refused_and_gone(
    service: Service, image_folder: Path, tmp_path: Path, refused: Refused, chunked: bool
) -> None:
    client, path = service.client, tmp_path / "refused"
    refused.make(path, image_folder)
    image_id = client.create(disk_format=refused.disk_format)
    data = path.read_bytes()
    reply = client.upload(image_id, iter([data]) if chunked else data, Accept="application/json")
    assert reply.status == 415, reply
    assert str(tmp_path) not in reply.body.decode()
    assert_nothing_stays(service, image_id)
    good = made(GOOD.get(refused.disk_format, refused.disk_format), image_folder)
    assert client.upload(image_id, good.data).status == 204
    assert client.show(image_id)["virtual_size"] == good.virtual_size
    assert client.download(image_id).body == good.data


def assert_nothing_stays(service: Service, image_id: str) -> None:
    shown = service.client.show(image_id)
    assert shown["status"] == "queued"
    for field in ("size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value"):
        assert shown[field] is None
    assert "stores" not in shown
    assert service.client.download(image_id).status == 204
    where = "image_id = ?"
    assert service.rows(f"SELECT * FROM image_locations WHERE {where}", image_id) == []  # noqa: S608
    assert service.rows(f"SELECT * FROM imgsvc_leases WHERE {where}", image_id) == []  # noqa: S608
    assert not any(image_id in name for name in service.files())


def test_other_containers_are_not_looked_into(client: Client, tmp_path: Path) -> None:
    backed(tmp_path / "disk", tmp_path)
    image_id = client.create(disk_format="qcow2", container_format="compressed")
    assert client.upload(image_id, (tmp_path / "disk").read_bytes()).status == 204


def test_refusal_comes_with_the_first_bytes(client: Client, service: Service) -> None:
    image_id = client.create(disk_format="qcow2")
    with client.connect() as connection:
        connection.sendall(
            f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {1 << 40}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        )
        connection.sendall(b"words" * 1_000_000)
        assert receive(connection).status == 415
        assert_nothing_stays(service, image_id)
