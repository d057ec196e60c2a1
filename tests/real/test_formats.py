"""Image files that must be refused: nothing of them stays, and a correct retry works."""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from tests.real.client import Client, receive
from tests.real.images import made, qemu_img
from tests.real.service import Service, running, wait_until


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
GOOD = {"vmdk": "vmdk-sparse"}
"""The kind of good file for a declared format, where the name is another."""


def vmdk_on_another(path: Path, folder: Path) -> None:
    qemu_img("create", "-f", "vmdk", folder / "base.vmdk", "1M")
    options = f"backing_file={folder / 'base.vmdk'},backing_fmt=vmdk"
    qemu_img("create", "-f", "vmdk", "-o", options, path, "1M")


def changed(name: str, offset: int, data: bytes) -> Callable[[Path, Path], None]:
    """Take a good file and write other bytes there."""

    def change(path: Path, folder: Path) -> None:
        kind(name)(path, folder)
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return change


def cut(name: str, size: int) -> Callable[[Path, Path], None]:
    """Take the beginning of a good file."""

    def change(path: Path, folder: Path) -> None:
        path.write_bytes(made(name, folder).data[:size])

    return change


def vhdx_of_2_to_the_63(path: Path, folder: Path) -> None:
    data = bytearray(made("vhdx", folder).data)
    regions, size = (bytes.fromhex(guid) for guid in (
        "06a27c8b90479a4bb8fe575f050f886e", "2442a52f1bcd7648b2115dbed83bf4b8",
    ))  # fmt: skip
    (region,) = struct.unpack_from("<Q", data, data.index(regions) + 16)
    (item,) = struct.unpack_from("<I", data, data.index(size) + 16)
    struct.pack_into("<Q", data, region + item, 1 << 63)
    path.write_bytes(data)


REFUSED = (
    *TOO_LARGE,
    Refused("vhdx-of-2-to-the-63", "vhdx", vhdx_of_2_to_the_63),
    Refused("vmdk-on-another", "vmdk", vmdk_on_another),
    Refused("vmdk-on-another-as-raw", "raw", vmdk_on_another),
    Refused("vhd-differencing", "vhd", changed("vhd", 63, b"\4")),
    Refused("vdi-differencing", "vdi", changed("vdi", 0x4C, b"\4")),
    Refused("vhdx-nonsense-regions", "vhdx", changed("vhdx", (192 << 10) + 16, b"x" * 64)),
    Refused("qcow2-l1-beyond-the-end", "qcow2", changed("qcow2", 40, b"\0\0\1" + bytes(5))),
    *(
        Refused(f"{GOOD.get(name, name)}-cut-short", name, cut(GOOD.get(name, name), 600 << 10))
        for name in ("qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso")
    ),
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


NOTE = "os_glance_detected_format"


def asking(client: Client, *roles: str) -> Client:
    headers = {
        "X-Identity-Status": "Confirmed", "X-User-Id": "somebody", "X-Project-Id": "one",
        "X-Roles": ",".join(roles),
    }  # fmt: skip
    return attrs.evolve(client, headers=headers)


@pytest.mark.parametrize("name", ["qcow2", "vmdk-sparse", "vhdx", "vhd", "vdi"])
def test_what_is_declared_raw_and_is_not_is_shown_to_administrators(
    with_roles: Service, image_folder: Path, name: str
) -> None:
    user = asking(with_roles.client, "member", "reader")
    admin = asking(with_roles.client, "admin", "member", "reader")
    good, found = made(name, image_folder), name.partition("-")[0]
    image_id = user.active(good.data)
    assert NOTE not in user.show(image_id)
    assert user.show(image_id)["virtual_size"] == len(good.data)
    assert admin.show(image_id)[NOTE] == found
    listed = admin.get(f"/v2/images?{NOTE}={found}").json()["images"]
    assert [image["id"] for image in listed] == [image_id]
    for who in (user, admin):
        for change in ({"op": "remove"}, {"op": "replace", "value": "raw"}):
            body = json.dumps([{**change, "path": f"/{NOTE}"}]).encode()
            media = "application/openstack-images-v2.1-json-patch"
            path = f"/v2/images/{image_id}"
            assert who.request("PATCH", path, body, {"Content-Type": media}).status == 403
    said = f"Image {image_id}: its disk_format is raw, but its data is {found}"
    wait_until(lambda: said in with_roles.log.read_text())


def test_what_is_raw_has_no_note(with_roles: Service, image_folder: Path) -> None:
    admin = asking(with_roles.client, "admin", "member", "reader")
    for name in ("iso", "raw"):
        good = made(name, image_folder)
        assert NOTE not in admin.show(admin.active(good.data))
    good = made("qcow2", image_folder)
    assert NOTE not in admin.show(admin.active(good.data, disk_format="qcow2"))


@pytest.fixture(scope="module")
def with_roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = {"auth": {"mode": "trusted_headers"}}
    with running(tmp_path_factory.mktemp("roles"), options) as started:
        yield started


def test_raw_can_have_to_be_raw(tmp_path: Path, image_folder: Path) -> None:
    with running(tmp_path, {"formats": {"raw_must_be_raw": True}}) as service:
        client = service.client
        image_id = client.create()
        for name in ("qcow2", "vmdk-stream", "vhdx"):
            data = made(name, image_folder).data
            reply = client.upload(image_id, data, Accept="application/json")
            assert reply.status == 415
            assert "does not match stream data" in reply.json()["message"]
            assert_nothing_stays(service, image_id)
        assert client.upload(image_id, made("raw", image_folder).data).status == 204
