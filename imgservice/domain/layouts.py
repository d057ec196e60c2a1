"""The layouts of image formats: which other files they refer to, and how long an image must be.

This goes beyond what oslo.utils checks. A format may name a parent, whose content a hypervisor
would read, and its tables say where the data ends. A layout is a generator: it yields the parts of
the stream that it needs, in their order, and returns the smallest possible size of the image.
"""

import re
import struct
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice, pairwise
from sys import byteorder
from uuid import UUID

import attrs

PIECE = 64 << 10
"""Bytes of a table that are read at a time."""
MOST_TABLES = 1 << 16
"""How many tables of the second level are read; of others, only the positions are checked."""


class Unsafe(Exception):
    """The image refers to data outside of itself."""


class Broken(Exception):
    """The image contradicts itself, or ends too early."""


@attrs.frozen
class StreamPart:
    """A part of the stream that a layout asks for."""

    name: str
    offset: int
    length: int
    may_end: bool = False
    """Whether the stream may end within the part, which is then shorter."""


Layout = Generator[StreamPart, bytes, int]
"""It is sent no bytes for a part that has passed already."""
Step = Generator[StreamPart, bytes, int]


class Follower:
    """Passes parts of a stream to a layout, and keeps nothing else of the stream."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._position = 0
        self._found = bytearray()
        self._least = 0
        self._wanted: StreamPart | None = None
        self._resume(None)

    def feed(self, block: bytes) -> None:
        """Pass on the next block; `Unsafe` or `Broken` as soon as that is known."""
        start, end = self._position, self._position + len(block)
        while (part := self._wanted) is not None:
            first = part.offset + len(self._found)
            if first < start:
                self._resume(b"")  # has passed already
                continue
            self._found += block[first - start : max(0, part.offset + part.length - start)]
            if len(self._found) < part.length:
                break
            self._resume(bytes(self._found))
        self._position = end

    def finish(self) -> None:
        """End the stream; `Broken` when more of it is needed."""
        while (part := self._wanted) is not None:
            if not part.may_end:
                raise Broken(f"it ends before its {part.name}")
            self._resume(bytes(self._found))
        if self._least > self._position:
            raise Broken(f"it has {self._position} bytes, and needs {self._least} by its tables")

    def _resume(self, data: bytes | None) -> None:
        self._found.clear()
        try:
            self._wanted = next(self._layout) if data is None else self._layout.send(data)
        except StopIteration as end:
            self._wanted, self._least = None, end.value


def follow(head: bytes) -> Follower | None:
    """Return what checks an image with this beginning; None when its layout is not known here.

    `Unsafe` or `Broken` if the beginning shows that already.
    """
    for (offset, magic), layout in _LAYOUTS.items():
        if head.startswith(magic, offset):
            return Follower(layout(head.ljust(512, b"\0")))
    if _TEXT_VMDK.match(head):
        raise Unsafe("the VMDK is only a description of other files")
    return None


def _checked(holds: bool, reason: str) -> None:
    if not holds:
        raise Broken(reason)


def _pieces(name: str, offset: int, length: int) -> Iterator[StreamPart]:
    for at in range(offset, offset + length, PIECE):
        yield StreamPart(name, at, min(PIECE, offset + length - at))


def _values(code: str, data: bytes, order: str) -> "array[int]":
    values = array(code, data[: len(data) // array(code).itemsize * array(code).itemsize])
    if order != byteorder:
        values.byteswap()
    return values


# -- qcow2 ----------------------------------------------------------------------------------------

_QCOW2_OFFSET = 0x00FFFFFFFFFFFE00
_QCOW2_COMPRESSED = 1 << 62
_QCOW2_LARGEST_L1 = 32 << 20


def _qcow2(head: bytes) -> Layout:
    version, bits, size, l1_size, l1_offset, refcounts, refcount_clusters = struct.unpack_from(
        ">4xI12xIQ4xIQQI", head
    )
    if version < 2:
        return 0
    _checked(9 <= bits <= 21, "its cluster size is none")
    cluster = 1 << bits
    _checked(l1_size >= -(-size // (cluster * cluster // 8)), "its L1 table is too small")
    _checked(8 * l1_size <= _QCOW2_LARGEST_L1, "its L1 table is too large")
    least: int = max(refcounts + refcount_clusters * cluster, l1_offset + 8 * l1_size)
    tables: set[int] = set()
    for part in _pieces("L1 table", l1_offset, 8 * l1_size):
        found = {entry & _QCOW2_OFFSET for entry in _values("Q", (yield part), "big")} - {0}
        least = max(least, max(found, default=-8) + 8)
        tables.update(islice(found, max(0, MOST_TABLES - len(tables))))
    for table in sorted(tables):
        for part in _pieces("L2 table", table, cluster):
            entry = max(_values("Q", (yield part), "big"), default=0)
            least = max(least, _qcow2_end(entry, bits))
    return least


def _qcow2_end(entry: int, bits: int) -> int:
    """Return the end of the first byte of a cluster: the file may end within the cluster."""
    if entry & _QCOW2_COMPRESSED:
        return (entry & ((1 << (70 - bits)) - 1)) + 1
    offset = entry & _QCOW2_OFFSET
    return offset + 1 if offset else 0


# -- VHD ------------------------------------------------------------------------------------------

_VHD_DYNAMIC, _VHD_DIFFERENCING = 3, 4
_VHD_FOOTER = 511
"""Bytes of the footer at the end of the file; later versions write one more."""
_UNUSED = 0xFFFFFFFF


def _vhd(head: bytes) -> Layout:
    header_offset, size, kind = struct.unpack_from(">16xQ24xQ4xI", head)
    if kind == _VHD_DIFFERENCING:
        raise Unsafe("the VHD has a parent")
    _checked(kind == _VHD_DYNAMIC, f"its disk type is {kind}")
    header = yield StreamPart("dynamic disk header", header_offset, 1024)
    _checked(header[:8] == b"cxsparse", "its dynamic disk header is none")
    table, entries, block = struct.unpack_from(">16xQ4xII", header)
    _checked(block > 0 and block % 512 == 0, "its block size is none")
    _checked(entries * block >= size, "its block allocation table is too small")
    bitmap = -(-block // (512 * 8 * 512)) * 512
    least: int = table + 4 * entries + _VHD_FOOTER
    for part in _pieces("block allocation table", table, 4 * entries):
        used = set(_values("I", (yield part), "big")) - {_UNUSED}
        if used:
            least = max(least, max(used) * 512 + bitmap + block + _VHD_FOOTER)
    return least


# -- VHDX -----------------------------------------------------------------------------------------

_MIB = 1 << 20
_BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
_METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_HAS_PARENT = 2
_MOST_ENTRIES = 2047
_PRESENT = (6, 7)
"""States of a block that has a place in the file."""


def _vhdx(head: bytes) -> Layout:
    regions = _vhdx_regions((yield StreamPart("region table", 3 * PIECE, PIECE)))
    least = max(offset + length for offset, length in regions.values())
    found = {}
    steps = {regions[_BAT]: _vhdx_last_block, regions[_METADATA]: _vhdx_block_size}
    for region, step in sorted(steps.items()):
        found[step] = yield from step(*region)
    last = found[_vhdx_last_block]
    return max(least, last + found[_vhdx_block_size]) if last else least


def _vhdx_regions(table: bytes) -> Mapping[UUID, tuple[int, int]]:
    signature, count = struct.unpack_from("<4s4xI", table)
    _checked(signature == b"regi" and count <= _MOST_ENTRIES, "its region table is none")
    regions = {}
    for guid, offset, length, required in struct.iter_unpack("<16sQII", table[16:][: 32 * count]):
        name = UUID(bytes_le=guid)
        known = name in (_BAT, _METADATA) or not required & 1
        whole = offset >= _MIB and length > 0 and offset % _MIB == 0 and length % _MIB == 0
        _checked(known and whole and name not in regions, "its region table makes no sense")
        regions[name] = (offset, length)
    _checked({_BAT, _METADATA} <= regions.keys(), "its region table is not complete")
    in_order = sorted(regions.values())
    for (offset, length), (after, _) in pairwise(in_order):
        _checked(offset + length <= after, "its regions overlap")
    return regions


def _vhdx_last_block(offset: int, length: int) -> Step:
    """Return where it begins; 0 for none."""
    last = 0
    for part in _pieces("block allocation table", offset, length):
        entry = max(_values("Q", (yield part), "little"), default=0)
        if entry & 7 in _PRESENT:
            last = max(last, (entry >> 20) * _MIB)
    return last


def _vhdx_block_size(offset: int, length: int) -> Step:
    table = yield StreamPart("metadata table", offset, PIECE)
    signature, count = struct.unpack_from("<8s2xH", table)
    _checked(signature == b"metadata" and count <= _MOST_ENTRIES, "its metadata table is none")
    items = [
        (at, size, UUID(bytes_le=guid))
        for guid, at, size, _ in struct.iter_unpack("<16sII8s", table[32:][: 32 * count])
    ]
    names = {name for _, _, name in items}
    if _PARENT_LOCATOR in names:
        raise Unsafe("the VHDX has a parent")
    _checked({_PARAMETERS, _DISK_SIZE} <= names, "its metadata are not complete")
    block = _MIB
    for at, size, name in sorted(items):
        _checked(not size or PIECE <= at <= length - size, "its metadata make no sense")
        if name == _PARAMETERS:
            block = _block_size((yield StreamPart("file parameters", offset + at, 8)))
    return block


def _block_size(parameters: bytes) -> int:
    _checked(len(parameters) == 8, "its file parameters are not where they belong")
    block, flags = struct.unpack("<II", parameters)
    if flags & _HAS_PARENT:
        raise Unsafe("the VHDX has a parent")
    _checked(block in {_MIB << shift for shift in range(9)}, "its block size is none")
    return int(block)


# -- VDI ------------------------------------------------------------------------------------------

_VDI_NORMAL = (1, 2)
_VDI_UNDO_OR_DIFFERENCING = (3, 4)
_VDI_SPECIAL = frozenset((0xFFFFFFFF, 0xFFFFFFFE))


def _vdi(head: bytes) -> Layout:
    kind, table, data, size, block, extra, blocks = struct.unpack_from("<76xI260xII20xQIII", head)
    parents = head[0x1A8:0x1C8]  # the image to which it is linked, and that one's last change
    if kind in _VDI_UNDO_OR_DIFFERENCING or any(parents):
        raise Unsafe("the VDI has a parent")
    _checked(kind in _VDI_NORMAL, f"its image type is {kind}")
    _checked(block > 0 and blocks * block >= size, "its block map is too small")
    least: int = table + 4 * blocks
    for part in _pieces("block map", table, 4 * blocks):
        used = set(_values("I", (yield part), "little")) - _VDI_SPECIAL
        if used:
            least = max(least, data + (max(used) + 1) * (block + extra))
    return least


# -- VMDK -----------------------------------------------------------------------------------------

_SECTOR = 512
_TEXT_VMDK = re.compile(
    rb"(?>(?:#[^\n]*+\n|[ \t\r]*+\n)*)[ \t]*+version[ \t]*+=[ \t]*+[123]\b", re.I
)
"""The beginning of a VMDK that only describes other files."""
_DESCRIPTOR_READ = 20 * _SECTOR
"""Bytes that QEMU takes for the descriptor, whatever size the header states."""
_DESCRIPTOR_MOST = 1 << 20
_NO_PARENT = re.compile(rb'[ \t]*+=[ \t]*+"?+ffffffff"?+[ \t]*+(?:[\r\n\0]|\Z)')
_GD_AT_END = (1 << 64) - 1
_LARGEST_DIRECTORY = 32 << 20


def _vmdk(head: bytes) -> Layout:
    capacity, grain, described, entries, directory, overhead = struct.unpack_from(
        "<12xQQ8xQI8xQQ", head
    )
    length = max(_DESCRIPTOR_READ, min(described * _SECTOR, _DESCRIPTOR_MOST))
    check_descriptor((yield StreamPart("descriptor", _SECTOR, length, may_end=True)))
    _checked(capacity > 0 and grain > 0 and entries > 0, "its header makes no sense")
    least: int = overhead * _SECTOR
    if directory == _GD_AT_END:
        return least  # oslo.utils checks its end
    tables = -(-capacity // (grain * entries))
    _checked(tables <= _LARGEST_DIRECTORY, "its grain directory is too large")
    least = max(least, (directory * _SECTOR) + 4 * tables)
    known: set[int] = set()
    for part in _pieces("grain directory", directory * _SECTOR, 4 * tables):
        found = set(_values("I", (yield part), "little")) - {0}
        least = max(least, max(found, default=0) * _SECTOR)
        known.update(islice(found, max(0, MOST_TABLES - len(known))))
    return max(least, (yield from _vmdk_grains(known, 4 * entries)))


def _vmdk_grains(tables: Iterable[int], length: int) -> Step:
    least = 0
    for table in sorted(tables):
        least = max(least, table * _SECTOR + length)
        for part in _pieces("grain table", table * _SECTOR, length):
            last = max(_values("I", (yield part), "little"), default=0)
            if last > 1:  # 1 stands for zeros
                least = max(least, last * _SECTOR + 1)
    return least


def check_descriptor(text: bytes) -> None:
    """Raise `Unsafe` when any part of the text could be taken for the name of a parent.

    QEMU finds these words anywhere, also in comments; other programs ignore case.
    """
    lowered = text.lower()
    if b"parentfilenamehint" in lowered:
        raise Unsafe("the VMDK has a parent")
    for key in re.finditer(b"parentcid", lowered):
        if not _NO_PARENT.match(lowered, key.end()):
            raise Unsafe("the VMDK has a parent")


_LAYOUTS: Mapping[tuple[int, bytes], Callable[[bytes], Layout]] = {
    (0, b"QFI\xfb"): _qcow2,
    (0, b"conectix"): _vhd,
    (0, b"vhdxfile"): _vhdx,
    (0, b"KDMV"): _vmdk,
    (0x40, b"\x7f\x10\xda\xbe"): _vdi,
}
"""The layouts, by the position and the value of the format's magic number."""
