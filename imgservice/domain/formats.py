"""Check that data has the declared format, and is safe to give to a hypervisor.

It imports oslo.utils, which takes long: only what inspects data imports this module.
"""

import logging
import struct
from collections.abc import Collection, Sequence
from typing import Protocol

from oslo_utils.imageutils import format_inspector

from imgservice.domain.errors import UnsupportedContent
from imgservice.domain.format_rules import FormatRules
from imgservice.domain.layouts import Broken, Follower, Unsafe, follow
from imgservice.domain.limits import LARGEST_SIZE

UNSAFE = "Image failed safety checks"
HEAD = 64 << 10
"""Bytes that are looked at together at first, however small the pieces in which they come."""
ISO_TOLERANCE = 1 << 20
"""Bytes at the end of a CD's volume that may be missing: programs leave out its padding."""
NO_VMDK_TYPE = "formatnotfound"
"""What oslo.utils says of a VMDK without a type, except of one whose description is not ASCII:
there it says nothing, and then fails for want of it."""
PLAIN = frozenset(("raw", "gpt", "iso", "luks"))
"""Formats that a raw disk may have: they have no tables that a hypervisor would follow."""
_MORE_MAGIC = {
    b"COWD": "vmdk", b"WithoutFreeSpace": "ploop", b"WithouFreSpacExt": "ploop",
}  # fmt: skip
"""The first bytes of formats that oslo.utils does not know."""

# It warns of each failed check without naming the image; our refusal names both.
logging.getLogger(format_inspector.__name__).addHandler(logging.NullHandler())


class _Inspected(Protocol):
    """What oslo.utils found out about data in one format; its text is the name of the format."""

    vmdktype: str
    """Only that of a VMDK means something."""
    _safety_checks: dict[str, object]

    @property
    def virtual_size(self) -> int: ...

    def safety_check(self) -> object: ...


class _Inspector(Protocol):
    """What oslo.utils found out about the data so far."""

    _inspectors: Collection[_Inspected]
    """One for each format."""

    @property
    def formats(self) -> Sequence[_Inspected] | None:
        """The formats that the data may have; None as long as that is open."""

    @property
    def format(self) -> _Inspected:
        """The only one of them; `ImageFormatError` when there are several."""

    def __next__(self) -> bytes: ...

    def close(self) -> None: ...


class FormatCheck:
    """Inspects the data of one image while it passes, and refuses it once it is known to be wrong.

    Only images in container format "bare" are inspected; other containers may hold anything.
    What was captured of the data is released once the format is known, or by `close`.
    """

    def __init__(self, disk_format: str, container_format: str, rules: FormatRules) -> None:
        self._declared = disk_format
        self._rules = rules
        self._source = _Pending()
        self._is_inspected = container_format == "bare"
        self._inspector: _Inspector | None = None
        """None once it is known which format the data has."""
        if self._is_inspected:
            self._inspector = format_inspector.InspectWrapper(self._source)
            for one in self._inspector._inspectors:
                one.vmdktype = NO_VMDK_TYPE
        self._head: bytearray | None = bytearray()
        self._follower: Follower | None = None
        self._broken: str | None = None
        self._disguise = "raw"
        self._is_declared = False
        self._size = 0
        self._virtual_size: int | None = None
        self.detected: str | None = None
        """The format of the data, where it is accepted though another one is declared."""

    def feed(self, block: bytes) -> None:
        """Inspect the next block; `UnsupportedContent` when the data cannot be accepted."""
        self._size += len(block)
        if not self._is_inspected:
            return
        if self._head is None:
            self._look(block)
            return
        if not self._head and len(block) >= HEAD:
            self._begin(block)  # as it is: a copy would cost more than all that follows
            return
        self._head += block
        if len(self._head) >= HEAD:
            self._begin(bytes(self._head))

    def finish(self) -> int | None:
        """Check the complete data; return its virtual size, None when it is unknown."""
        if not self._is_inspected:
            return None
        if self._head is not None:
            self._begin(bytes(self._head))
        if self._inspector is not None:
            self._inspector.close()
            self._decide(self._inspector)
        self._follow(None)
        self._check_whole()
        if self._declared == "raw":
            return self._size
        return self._virtual_size

    def close(self) -> None:
        """Release what was captured of the data.

        The inspectors refer to themselves by their checks: without this, the data would stay until
        the next full garbage collection, which may be hundreds of uploads later.
        """
        if self._inspector is not None:
            for one in self._inspector._inspectors:
                one._safety_checks.clear()
        self._inspector = None
        self._source.block = b""

    def _begin(self, head: bytes) -> None:
        self._head = None
        for magic, name in _MORE_MAGIC.items():
            if head.startswith(magic):
                self._disguise = name
        try:
            self._follower = follow(head)
        except Unsafe as error:
            raise UnsupportedContent(f"{UNSAFE}: {error}") from None
        except Broken as error:
            self._broken = str(error)
        self._follow(head)
        # Inspectors capture up to 1 MiB of the first bytes before they see that these are not
        # of their format: the beginning alone shows it to most of them.
        self._inspect(head[:HEAD])
        self._inspect(head[HEAD:])

    def _look(self, block: bytes) -> None:
        self._follow(block)
        self._inspect(block)

    def _inspect(self, block: bytes) -> None:
        if self._inspector is None or not block:
            return
        self._source.block = block
        next(self._inspector)
        if self._inspector.formats is not None:
            self._decide(self._inspector)

    def _follow(self, block: bytes | None) -> None:
        """Check the layout of the next block, or, without one, of the complete data."""
        if self._follower is None:
            return
        try:
            if block is None:
                self._follower.finish()
            else:
                self._follower.feed(block)
        except Unsafe as error:
            raise UnsupportedContent(f"{UNSAFE}: {error}") from None
        except Broken as error:
            self._follower, self._broken = None, str(error)
            if self._inspector is None:
                self._check_whole()

    def _decide(self, inspector: _Inspector) -> None:
        try:
            found = self._found(inspector)
            self._match(found)
            self._check_safety(found)
            self._measure(found)
        except format_inspector.ImageFormatError as error:
            if self._rules.require_match:
                raise UnsupportedContent(str(error)) from None
        finally:
            self.close()

    def _found(self, inspector: _Inspector) -> _Inspected:
        """Return the inspector of the one format that the data has."""
        matches = {str(one): one for one in inspector.formats or ()}
        if matches.keys() == {"iso", "gpt"}:
            return matches["iso"]  # a CD that also boots from a USB stick has a partition table
        return inspector.format

    def _match(self, found: _Inspected) -> None:
        name = self._name(found)
        if name == self._declared or self._is_opaque(name):
            self._is_declared = name == self._declared != "raw"
            return
        problem = f"Image disk_format {self._declared} does not match stream data {name}"
        if self._declared == "raw":
            if name in PLAIN:
                return
            if self._rules.raw_must_be_raw:
                raise UnsupportedContent(problem)
        elif self._rules.require_match and not self._rules.accept_others:
            raise UnsupportedContent(problem)
        self.detected = name

    def _name(self, found: _Inspected) -> str:
        name = str(found)
        return self._disguise if name == "raw" and self._declared == "raw" else name

    def _is_opaque(self, found: str) -> bool:
        """Tell whether the declared format is one that cannot be recognised."""
        if self._declared in format_inspector.ALL_FORMATS:
            return False
        return found == "raw" or (found == "gpt" and self._declared in ("aki", "ari"))

    def _check_safety(self, found: _Inspected) -> None:
        try:
            found.safety_check()
        except format_inspector.SafetyCheckFailed as error:
            failures = set(error.failures)
            if str(found) != "gpt" or (failures := self._fatal(failures)):
                raise UnsupportedContent(f"{UNSAFE}: {', '.join(sorted(failures))}") from None
        allowed = [kind.lower() for kind in self._rules.vmdk_types]
        if str(found) == "vmdk" and found.vmdktype not in allowed:
            raise UnsupportedContent(f"{UNSAFE}: VMDK subformat {found.vmdktype}")

    def _measure(self, found: _Inspected) -> None:
        if str(found) != self._declared:
            return
        try:
            self._virtual_size = found.virtual_size
        except (LookupError, ValueError, struct.error):
            # For example the description of a VMDK whose data is in another file.
            raise format_inspector.ImageFormatError(f"The {found} image is not complete") from None
        if self._virtual_size is not None and self._virtual_size > LARGEST_SIZE:
            raise UnsupportedContent(
                f"The virtual size of the {found} image is {self._virtual_size} bytes; at most"
                f" {LARGEST_SIZE} can be recorded."
            )

    def _check_whole(self) -> None:
        """Refuse a damaged image of the declared format."""
        if self._declared == "iso" and (self._virtual_size or 0) > self._size + ISO_TOLERANCE:
            self._broken = f"it has {self._size} of {self._virtual_size} bytes"
        if self._broken is not None and self._is_declared and self._rules.require_match:
            raise UnsupportedContent(
                f"The {self._declared} image is damaged or not complete: {self._broken}"
            )

    def _fatal(self, failures: set[str]) -> set[str]:
        tolerated = set(self._rules.gpt_safety_checks_nonfatal)
        if self._declared in ("aki", "ari"):
            tolerated.add("mbr")  # a kernel may carry what looks like a broken boot record
        return failures - tolerated


class _Pending:
    """The source from which the inspector takes the current block."""

    block = b""

    def __next__(self) -> bytes:
        return self.block
