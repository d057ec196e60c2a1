"""What image formats say of themselves: parents, tables beyond the end; and good images."""

import gc
import json
import os
import random
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import pytest
from oslo_utils.imageutils import format_inspector

from imgservice.domain.errors import UnsupportedContent
from imgservice.domain.format_rules import FormatRules
from imgservice.domain.formats import FormatCheck
from tests.real.images import qemu_img

MIB = 1 << 20
Change = Callable[[bytearray], None]


LENIENT: Any = ({}, {"require_match": False}, {"accept_others": True})


@attrs.frozen
class Made:
    """A way to write a disk with qemu-img."""

    disk_format: str
    qemu_format: str
    options: str = ""
    compress: bool = False

    def __str__(self) -> str:
        return "-".join(filter(None, [self.qemu_format, self.options, "c" * self.compress]))


MADE = [
    *(Made("qcow2", "qcow2", options) for options in (
        "", "compat=0.10", "cluster_size=512", "cluster_size=2M", "preallocation=metadata",
        "preallocation=full", "lazy_refcounts=on", "refcount_bits=1", "compression_type=zstd",
    )),
    Made("qcow2", "qcow2", compress=True),
    Made("qcow2", "qcow2", "cluster_size=4k", compress=True),
    *(Made("vmdk", "vmdk", f"subformat={options}") for options in (
        "monolithicSparse", "streamOptimized", "monolithicSparse,compat6=on",
        "monolithicSparse,zeroed_grain=on",
    )),
    *(Made("vhdx", "vhdx", options) for options in (
        "subformat=dynamic", "subformat=fixed", "block_size=1M", "log_size=2M",
    )),
    Made("vdi", "vdi"),
    Made("vdi", "vdi", "static=on"),
    Made("vhd", "vpc", "subformat=dynamic"),
    Made("vhd", "vpc", "subformat=dynamic,force_size=on"),
]  # fmt: skip
CONTENTS = ((0, "empty"), (512, "end"), ((5 << 20) + 512, "end"), (5 << 20, "sparse"))


@attrs.frozen
class Disk:
    """An image file, and the virtual size that qemu-img tells."""

    data: bytes
    virtual_size: int | None


def pieces(data: bytes, step: int) -> Iterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


def judge(
    data: bytes | Iterable[bytes], disk_format: str, step: int = MIB, **rules: Any
) -> FormatCheck:
    check = FormatCheck(disk_format, "bare", FormatRules(**rules))
    for block in pieces(data, step) if isinstance(data, bytes | bytearray) else data:
        check.feed(block)
    check.finish()
    return check


def virtual_size(data: bytes, disk_format: str, step: int = MIB) -> int | None:
    check = FormatCheck(disk_format, "bare", FormatRules())
    for block in pieces(data, step):
        check.feed(block)
    return check.finish()


def refused(data: bytes, disk_format: str, step: int = MIB, **rules: Any) -> str:
    with pytest.raises(UnsupportedContent) as caught:
        judge(data, disk_format, step, **rules)
    return caught.value.message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disks")


def disk(folder: Path, made: Made, size: int = 5 << 20, content: str = "sparse") -> Disk:
    """Write a disk once; every other of its MiB has data."""
    path = folder / f"{made}-{size}-{content}"
    if not path.exists():
        raw = folder / f"raw-{size}-{content}"
        _write_raw(raw, size, content)
        options = ["-o", made.options] if made.options else []
        compress = ["-c"] if made.compress else []
        qemu_img("convert", *compress, "-f", "raw", "-O", made.qemu_format, *options, raw, path)
    return Disk(path.read_bytes(), told_size(path, made.qemu_format) or None)


@cache
def told_size(path: Path, qemu_format: str) -> int:
    told = json.loads(qemu_img("info", "--output=json", "-f", qemu_format, path))
    return int(told["virtual-size"])


def _write_raw(path: Path, size: int, content: str) -> None:
    some = random.Random(size)
    with path.open("wb") as file:
        file.truncate(size)
        if content == "sparse":
            for at in range(0, size, 2 * MIB):
                file.seek(at)
                file.write(some.randbytes(min(70_000, size - at)))
        elif content == "end" and size:
            file.seek(size - 512)
            file.write(some.randbytes(512))


def good(folder: Path, disk_format: str) -> bytearray:
    made = next(one for one in MADE if one.disk_format == disk_format)
    return bytearray(disk(folder, made).data)


# -- what must pass -------------------------------------------------------------------------------


@pytest.mark.parametrize("made", MADE, ids=str)
def test_whatever_qemu_writes_is_accepted(folder: Path, made: Made) -> None:
    for size, content in CONTENTS:
        if size == 0 and made.disk_format == "vmdk":
            continue  # QEMU would take it for a description of other files
        one = disk(folder, made, size, content)
        for step in (MIB, 4099 if content == "sparse" else 65537):
            found = virtual_size(one.data, made.disk_format, step) or None
            assert found == one.virtual_size, (size, content, step)


@pytest.mark.parametrize("qemu_format", ["qcow2", "vhdx", "vpc", "vdi", "vmdk"])
def test_images_that_grew_are_accepted(tmp_path: Path, qemu_format: str) -> None:
    path = tmp_path / "disk"
    qemu_img("create", "-f", qemu_format, path, "3M")
    if qemu_format == "qcow2":
        qemu_img("snapshot", "-c", "before", path)
        qemu_img("bitmap", "--add", path, "bitmap")
        qemu_img("bitmap", "--remove", path, "bitmap")
        qemu_img("snapshot", "-d", "before", path)
        qemu_img("resize", "-f", qemu_format, path, "700G")  # its L1 table moves
    if qemu_format in ("vhdx", "vpc"):
        _write_raw(tmp_path / "raw", 40 * MIB, "sparse")
        options = "subformat=dynamic"
        qemu_img("create", "-f", qemu_format, "-o", options, path, "40M")
        qemu_img("convert", "-n", "-f", "raw", "-O", qemu_format, tmp_path / "raw", path)
    disk_format = {"vpc": "vhd"}.get(qemu_format, qemu_format)
    assert virtual_size(path.read_bytes(), disk_format) == told_size(path, qemu_format)


def test_an_encrypted_disk_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    secret = ("--object", "secret,id=key,data=words")
    options = "encrypt.format=aes,encrypt.key-secret=key"
    qemu_img("create", *secret, "-f", "qcow2", "-o", options, path, "5M")
    assert virtual_size(path.read_bytes(), "qcow2") == 5 << 20


# -- parents --------------------------------------------------------------------------------------


def put(offset: int, code: str, *values: int | bytes) -> Change:
    """Write values there."""

    def change(data: bytearray) -> None:
        struct.pack_into(code, data, offset, *values)

    return change


def at_guid(guid: bytes, code: str, *values: int | bytes, skip: int = 0) -> Change:
    """Write values behind the first place of a GUID in a VHDX."""

    def change(data: bytearray) -> None:
        struct.pack_into(code, data, data.index(guid) + skip, *values)

    return change


PARAMETERS = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
PAGE83 = bytes.fromhex("ab12cabee6b22345" + "93efc309e000c746")
PARENT_LOCATOR = bytes.fromhex("2d5fd3a80bb34d45abf7d3d84834ab0c")
METADATA = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
BAT = bytes.fromhex("6677c22d23f600429d64115e9bfd4a08")


def has_parent(data: bytearray) -> None:
    """Set the bit of the file parameters that says so."""
    (region,) = struct.unpack_from("<Q", data, data.index(METADATA) + 16)
    (item,) = struct.unpack_from("<I", data, data.index(PARAMETERS) + 16)
    data[region + item + 4] |= 2


PARENTS = {
    "vhd-differencing": ("vhd", put(60, ">I", 4)),
    "vdi-undo": ("vdi", put(0x4C, "<I", 3)),
    "vdi-differencing": ("vdi", put(0x4C, "<I", 4)),
    "vdi-link": ("vdi", put(0x1A8, "16s", b"x" * 16)),
    "vdi-parent": ("vdi", put(0x1B8, "16s", b"x" * 16)),
    "vhdx-bit": ("vhdx", has_parent),
    "vhdx-locator": ("vhdx", at_guid(PAGE83, "16s", PARENT_LOCATOR)),
    "qcow2-backing": ("qcow2", put(8, ">QI", 512, 11)),
    "qcow2-data-file": ("qcow2", put(72, ">Q", 4)),
}


@pytest.mark.parametrize("name", PARENTS)
@pytest.mark.parametrize("step", [MIB, 10_007])
def test_parents_are_refused(folder: Path, name: str, step: int) -> None:
    disk_format, change = PARENTS[name]
    data = good(folder, disk_format)
    change(data)
    for declared in (disk_format, "raw", "iso"):
        for rules in LENIENT:
            message = refused(bytes(data), declared, step, **rules)
            assert "safety" in message or "match" in message
    assert "safety" in refused(bytes(data), disk_format)


def test_a_vmdk_that_qemu_made_on_another_is_refused(tmp_path: Path) -> None:
    qemu_img("create", "-f", "vmdk", tmp_path / "base", "1M")
    options = f"backing_file={tmp_path / 'base'},backing_fmt=vmdk"
    qemu_img("create", "-f", "vmdk", "-o", options, tmp_path / "disk", "1M")
    data = (tmp_path / "disk").read_bytes()
    told = json.loads(qemu_img("info", "--output=json", tmp_path / "disk"))
    assert told["backing-filename"] == str(tmp_path / "base")
    for step in (MIB, 512, 1):
        assert "parent" in refused(data, "vmdk", step)
        assert "parent" in refused(data, "raw", step)


HINT = 'parentFileNameHint="/etc/passwd"'
DESCRIPTOR = (
    "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
    'createType="monolithicSparse"\n{}\nRW 10240 SPARSE "disk"\n'
)


def described(folder: Path, text: str, sectors: int = 20) -> bytes:
    """Return a good VMDK with this as its descriptor, and this size of it in the header."""
    data = good(folder, "vmdk")
    struct.pack_into("<Q", data, 36, sectors)
    data[512 : 512 + 20 * 512] = text.encode("latin-1").ljust(20 * 512, b"\0")
    return bytes(data)


BAD_LINES = [
    HINT, HINT.lower(), HINT.upper(), f"\t{HINT}", f"# {HINT}", f"ddb.x = {HINT}",
    'parentFileNameHint = "x"', "parentFileNameHint=", f"x={HINT}", f"\0{HINT}", f"{HINT}\0",
    f"parentCID=ffffffff\n{HINT}",
    "parentCID=00000000", "PARENTCID=0", "parentcid = 12345678", 'parentCID="12345678"',
    "parentCID=", "parentCID", "parentCID=ffffffff1", "parentCID=fffffffff", "parentCID=fffffffe",
    "parentCID=ffffffff x", "# parentCID=1", "\0parentCID=1", "parentCID=ffffffff\nparentCID=1",
    "parentCID=0xffffffff", "parentCID=-1",
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES, ids=repr)
def test_descriptors_that_may_name_a_parent_are_refused(folder: Path, line: str) -> None:
    data = described(folder, DESCRIPTOR.format(line))
    for step in (MIB, 600, 1):
        assert "safety" in refused(data, "vmdk", step)
        assert "safety" in refused(data, "raw", step, require_match=False)


@pytest.mark.parametrize(
    "line",
    ["", "parentCID=FFFFFFFF", "parentcid= ffffffff", 'parentCID="ffffffff"',
     "PARENTCID=ffffffff\r", "CID=fffffffe", 'ddb.comment = "a parent"', "# no parent CID"],
    ids=repr,
)  # fmt: skip
def test_other_descriptors_are_accepted(folder: Path, line: str) -> None:
    data = described(folder, DESCRIPTOR.format(line))
    for step in (MIB, 600):
        assert virtual_size(data, "vmdk", step) == 5 << 20


def test_a_descriptor_that_goes_on_behind_its_end_is_read_as_qemu_reads_it(folder: Path) -> None:
    filler = "\n".join(f"# {number:0200}" for number in range(20))
    data = described(folder, DESCRIPTOR.format(f"{filler}\n{HINT}"), sectors=1)
    assert "parent" in refused(data, "vmdk")


def test_a_descriptor_is_split_anywhere(folder: Path) -> None:
    data = described(folder, DESCRIPTOR.format(HINT))
    at = data.index(b"parentFileNameHint")
    for cut in range(at - 2, at + 24):
        with pytest.raises(UnsupportedContent, match="parent"):
            judge([data[:cut], data[cut : cut + 1], data[cut + 1 :]], "vmdk")


@pytest.mark.parametrize(
    "text",
    [
        DESCRIPTOR.format(""), DESCRIPTOR.format(HINT), "# comment\r\n \t\r\nversion=1\r\n",
        "VERSION = 3\ncreateType=x\n", "#\n" * 5000 + "version=2\n",
    ],
    ids=range(5),
)  # fmt: skip
def test_a_vmdk_that_is_only_a_text_is_refused(text: str) -> None:
    for declared in ("vmdk", "raw"):
        for step in (MIB, 10):
            message = refused(text.encode() + b"\n" * 2000, declared, step, require_match=False)
            assert "safety" in message


# -- damage ---------------------------------------------------------------------------------------

HEADER = {"qcow2": 104, "vmdk": 512, "vhd": 512, "vdi": 512, "vhdx": 256 << 10}
DAMAGE = {
    "qcow2-l1-beyond-the-end": ("qcow2", put(40, ">Q", 1 << 40)),
    "qcow2-l1-far-beyond": ("qcow2", put(40, ">Q", (1 << 64) - 8)),
    "qcow2-l1-too-small": ("qcow2", put(36, ">I", 0)),
    "qcow2-l1-too-large": ("qcow2", put(36, ">I", 0xFFFFFFFF)),
    "qcow2-refcounts-beyond-the-end": ("qcow2", put(48, ">Q", 1 << 40)),
    "qcow2-cluster-size": ("qcow2", put(20, ">I", 63)),
    "vhd-type": ("vhd", put(60, ">I", 77)),
    "vhd-fixed": ("vhd", put(60, ">I", 2)),
    "vhd-header-beyond-the-end": ("vhd", put(16, ">Q", (1 << 64) - 1)),
    "vhd-no-header": ("vhd", put(512, "8s", b"x" * 8)),
    "vhd-table-beyond-the-end": ("vhd", put(512 + 16, ">Q", 1 << 40)),
    "vhd-table-too-small": ("vhd", put(512 + 28, ">I", 0)),
    "vhd-block-size": ("vhd", put(512 + 32, ">I", 0)),
    "vhdx-region-signature": ("vhdx", put(192 << 10, "4s", b"nope")),
    "vhdx-region-count": ("vhdx", put((192 << 10) + 8, "<I", 0xFFFFFFFF)),
    "vhdx-no-regions": ("vhdx", put((192 << 10) + 8, "<I", 0)),
    "vhdx-region-nonsense": ("vhdx", put((192 << 10) + 16, "<64s", bytes(range(64)))),
    "vhdx-metadata-beyond-the-end": ("vhdx", at_guid(METADATA, "<Q", 1 << 40, skip=16)),
    "vhdx-metadata-unaligned": ("vhdx", at_guid(METADATA, "<Q", (2 << 20) + 512, skip=16)),
    "vhdx-metadata-in-the-head": ("vhdx", at_guid(METADATA, "<Q", 0, skip=16)),
    "vhdx-bat-beyond-the-end": ("vhdx", at_guid(BAT, "<Q", 1 << 40, skip=16)),
    "vhdx-bat-over-metadata": ("vhdx", at_guid(BAT, "<Q", 3 << 20, skip=16)),
    "vhdx-parameters-away": ("vhdx", at_guid(PARAMETERS, "16s", b"x" * 16)),
    "vhdx-parameters-in-the-table": ("vhdx", at_guid(PARAMETERS, "<I", 0, skip=16)),
    "vdi-type": ("vdi", put(0x4C, "<I", 9)),
    "vdi-map-beyond-the-end": ("vdi", put(0x154, "<I", 0xFFFFFFF0)),
    "vdi-map-too-small": ("vdi", put(0x180, "<I", 0)),
    "vdi-block-size": ("vdi", put(0x178, "<I", 0)),
    "vdi-data-beyond-the-end": ("vdi", put(0x158, "<I", 0xFFFFFFF0)),
    "vmdk-directory-beyond-the-end": ("vmdk", put(56, "<Q", 1 << 40)),
    "vmdk-no-capacity": ("vmdk", put(12, "<Q", 0)),
    "vmdk-no-grain": ("vmdk", put(20, "<Q", 0)),
    "vmdk-no-entries": ("vmdk", put(44, "<I", 0)),
    "vmdk-huge": ("vmdk", put(12, "<Q", 1 << 53)),
    "vmdk-overhead": ("vmdk", put(64, "<Q", 1 << 40)),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("step", [MIB, 10_007])
def test_nonsense_is_refused(folder: Path, name: str, step: int) -> None:
    disk_format, change = DAMAGE[name]
    data = good(folder, disk_format)
    change(data)
    assert refused(bytes(data), disk_format, step)
    if "beyond" not in name:  # or oslo.utils waits for more
        assert judge(bytes(data), "raw", step, require_match=False).detected == disk_format


@pytest.mark.parametrize("made", MADE, ids=str)
def test_images_that_are_cut_short_are_refused(folder: Path, made: Made) -> None:
    """What a cluster or grain is partly cut of is not seen, only what lies behind it."""
    data = disk(folder, made).data
    for part in (0.02, 0.2, 0.5, 0.7):
        cut = max(HEADER[made.disk_format], int(len(data) * part) // 512 * 512)
        assert refused(data[:cut], made.disk_format), cut


def test_an_iso_that_is_cut_short_is_refused() -> None:
    head = bytearray(40 << 10)
    struct.pack_into("<B5s", head, 32 << 10, 1, b"CD001")
    struct.pack_into("<I4xI", head, (32 << 10) + 80, 4096, 0)
    struct.pack_into("<H", head, (32 << 10) + 128, 2048)
    whole = bytes(head).ljust(8 << 20, b"x")
    assert virtual_size(whole, "iso") == 8 << 20
    assert virtual_size(whole[: -(300 << 10)], "iso") == 8 << 20  # without its padding
    assert "not complete" in refused(whole[: 6 << 20], "iso")


@pytest.mark.parametrize("step", [MIB, 10007])
def test_any_change_of_any_image_is_judged(folder: Path, step: int) -> None:
    """Nothing but a refusal comes out of broken data."""
    some = random.Random(11)
    for disk_format in HEADER:
        whole = good(folder, disk_format)[: 4 * MIB]
        for _ in range(12):
            data = bytearray(whole)
            for _ in range(some.randint(1, 8)):
                at = some.randrange(min(len(data), some.choice((512, 4096, 3 * MIB))))
                data[at] = some.choice((0, 1, 4, 0x7F, 0x80, 0xFF))
            for declared in (disk_format, "raw"):
                try:
                    judge(bytes(data), declared, step, require_match=some.random() < 0.5)
                except UnsupportedContent:
                    continue


# -- raw, and other declarations ------------------------------------------------------------------


@pytest.mark.parametrize("disk_format", HEADER)
def test_what_is_declared_raw_and_is_not_is_told(folder: Path, disk_format: str) -> None:
    data = bytes(good(folder, disk_format))
    for step in (MIB, 4099):
        check = judge(data, "raw", step)
        assert check.detected == disk_format
        assert check.finish() == len(data)
    for rules in LENIENT:
        message = refused(data, "raw", raw_must_be_raw=True, **rules)
        assert message == f"Image disk_format raw does not match stream data {disk_format}"
    by_byte = (data[at : at + 1] for at in range(1000))
    assert judge(chain(by_byte, [data[1000:]]), "raw").detected == disk_format


@pytest.mark.parametrize("magic", ["COWD", "WithoutFreeSpace", "WithouFreSpacExt"])
def test_formats_that_only_their_beginning_tells(magic: str) -> None:
    data = magic.encode().ljust(MIB, b"\0")
    assert judge(data, "raw").detected in ("vmdk", "ploop")
    assert refused(data, "raw", raw_must_be_raw=True)
    assert judge(data, "ploop", raw_must_be_raw=True).detected is None


def test_raw_disks_are_raw() -> None:
    disks = {
        "empty": b"", "short": b"QFI\xfb", "zeros": bytes(MIB),
        "noise": random.Random(3).randbytes(MIB),
        "luks": b"LUKS\xba\xbe\x00\x01".ljust(MIB, b"\0"),
        "cd": bytes(32769) + b"CD001".ljust(MIB, b"\0"),
        "text": b"only words " * 5000,
    }  # fmt: skip
    for name, data in disks.items():
        for step in (MIB, 7777):
            check = judge(data, "raw", step, raw_must_be_raw=True)
            assert check.detected is None, name
            assert check.finish() == len(data)


def test_another_format_than_the_declared_one_is_taken_where_that_is_wanted(folder: Path) -> None:
    data = bytes(good(folder, "qcow2"))
    assert refused(data, "vmdk")
    check = judge(data, "vmdk", accept_others=True)
    assert (check.detected, check.finish()) == ("qcow2", None)
    assert judge(b"words" * 1000, "qcow2", accept_others=True).detected == "raw"
    assert refused(data[:200_000], "qcow2", accept_others=True)


@pytest.mark.parametrize("step", [4096, MIB])
@pytest.mark.parametrize("text", [b"#!/bin/sh\nexit\n" * 40, b"text " * 50_000])
def test_data_that_begins_as_text_may_be_raw(text: bytes, step: int) -> None:
    data = text + os.urandom(MIB)
    assert virtual_size(data, "raw", step) == len(data)


def test_a_vmdk_whose_description_is_not_ascii_is_refused() -> None:
    data = _vmdk_text(4096) + "# Ä\n".encode() * 10_000
    assert "Image failed safety checks" in refused(data, "vmdk")


# -- memory ---------------------------------------------------------------------------------------


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def captured() -> int:
    """Return how many bytes all inspectors have captured."""
    regions = [one for one in gc.get_objects() if isinstance(one, format_inspector.CaptureRegion)]
    return sum(len(region.data) for region in regions)


@pytest.mark.usefixtures("without_collector")
def test_little_is_captured_of_data_in_an_unknown_format() -> None:
    check = FormatCheck("raw", "bare", FormatRules())
    check.feed(os.urandom(200 << 10))
    assert 0 < captured() < 200 << 10
    check.close()


@pytest.mark.usefixtures("without_collector")
def test_nothing_captured_is_kept_once_the_format_is_known() -> None:
    check = FormatCheck("raw", "bare", FormatRules())
    check.feed(os.urandom(MIB))
    assert captured() == 0
    check.feed(b"more")
    assert check.finish() == MIB + 4


@pytest.mark.usefixtures("without_collector")
def test_nothing_captured_is_kept_of_refused_data() -> None:
    check = FormatCheck("qcow2", "bare", FormatRules())
    try:
        check.feed(os.urandom(MIB))
    except UnsupportedContent as error:
        assert "qcow2" in error.message
    else:
        pytest.fail("the data was accepted")
    assert captured() == 0


@pytest.mark.usefixtures("without_collector")
def test_nothing_captured_is_kept_of_data_that_ends_early() -> None:
    check = FormatCheck("vmdk", "bare", FormatRules())
    check.feed(_vmdk_text(512 << 10) + bytes(100 << 10))
    assert captured() > 0
    check.close()
    assert captured() == 0


# -- cost -----------------------------------------------------------------------------------------


def _seconds(data: bytes, disk_format: str, step: int) -> float:
    began = time.process_time()
    with suppress(UnsupportedContent):
        judge(data, disk_format, step)
    return time.process_time() - began


def _vmdk_text(size: int) -> bytes:
    head = bytearray(512)
    struct.pack_into("<4sIIQQQQIQQQ", head, 0, b"KDMV", 1, 3, 1 << 11, 128, 1, size // 512, 512, 0,
                     1 << 20, 128)  # fmt: skip
    return bytes(head)


@pytest.mark.parametrize(
    ("disk_format", "unit"),
    [
        ("vmdk", b"parentCID=ffffffff\n"),
        ("vmdk", b"parentCID" + b" " * 50),
        ("vmdk", b" \t"),
        ("raw", b"# \n"),
        ("raw", b"    \n"),
        ("raw", b" "),
    ],
)
def test_the_work_grows_with_the_bytes_only(disk_format: str, unit: bytes) -> None:
    def attack(size: int) -> bytes:
        text = unit * (size // len(unit))
        return _vmdk_text(size) + text if disk_format == "vmdk" else text

    small, large = 60 << 10, 960 << 10
    least = min(_seconds(attack(small), disk_format, 4096) for _ in range(3))
    most = min(_seconds(attack(large), disk_format, 4096) for _ in range(3))
    assert most < 16 * 8 * max(least, 0.001)


def test_tables_that_fill_the_whole_file_cost_little(folder: Path) -> None:
    """Each L1 entry names another L2 table: all of the file is looked at as tables."""
    clusters = 512
    data = bytearray(good(folder, "qcow2")[: 1 << 16]).ljust(clusters << 16, b"\xff")
    struct.pack_into(">QII QI", data, 24, 1 << 40, 0, clusters - 2, 1 << 16, 0)
    struct.pack_into(
        f">{clusters - 2}Q", data, 1 << 16, *((at + 2) << 16 for at in range(clusters - 2))
    )
    plain = _seconds(bytes(len(data)), "raw", MIB)
    assert _seconds(bytes(data), "qcow2", MIB) < 2.0 + 50 * plain
