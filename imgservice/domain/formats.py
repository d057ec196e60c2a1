"""Is the data what it is declared to be, and safe to hand to a hypervisor?"""

import struct
from collections.abc import Sequence
from typing import Any

import attrs
from oslo_utils.imageutils import format_inspector

from imgservice.domain.errors import UnsupportedContent
from imgservice.domain.limits import LARGEST_SIZE

UNSAFE = "Image failed safety checks"


@attrs.frozen
class FormatRules:
    """What the operator accepts."""

    require_match: bool = True
    vmdk_types: Sequence[str] = ("streamOptimized", "monolithicSparse")
    gpt_safety_checks_nonfatal: Sequence[str] = ()


class FormatCheck:
    """Watches the data of one image go by, and refuses it as soon as it is known to be wrong.

    Only images in container format "bare" are looked into; in any other container anything may be.
    """

    def __init__(self, disk_format: str, container_format: str, rules: FormatRules) -> None:
        self._declared = disk_format
        self._rules = rules
        self._source = _Pending()
        self._inspector: Any = None
        if container_format == "bare":
            self._inspector = format_inspector.InspectWrapper(self._source)
        self._undecided = self._inspector is not None
        self._size = 0
        self._virtual_size: int | None = None

    def feed(self, block: bytes) -> None:
        """Look at the next block; `UnsupportedContent` when the data cannot be accepted."""
        self._size += len(block)
        if self._undecided:
            self._source.block = block
            next(self._inspector)
            if self._inspector.formats is not None:
                self._decide()

    def finish(self) -> int | None:
        """Judge the whole; return the virtual size, None when nobody can tell it."""
        if self._inspector is None:
            return None
        if self._undecided:
            self._inspector.close()
            self._decide()
        if self._declared == "raw":
            return self._size
        return self._virtual_size

    def _decide(self) -> None:
        self._undecided = False
        try:
            found = self._found()
            self._match(found)
            self._check_safety(found)
            self._measure(found)
        except format_inspector.ImageFormatError as error:
            if self._rules.require_match:
                raise UnsupportedContent(str(error)) from None

    def _found(self) -> Any:
        """Return the inspector of the one format that the data has."""
        matches = {str(one): one for one in self._inspector.formats}
        if matches.keys() == {"iso", "gpt"}:
            return matches["iso"]  # a CD that also boots from a stick has a partition table
        return self._inspector.format

    def _match(self, found: Any) -> None:
        name = str(found)
        if name == self._declared or self._declared == "raw" or self._is_opaque(name):
            return
        raise format_inspector.ImageFormatError(
            f"Image disk_format {self._declared} does not match stream data {name}"
        )

    def _is_opaque(self, found: str) -> bool:
        """Tell whether the declared format is one that nobody can recognise."""
        if self._declared in format_inspector.ALL_FORMATS:
            return False
        return found == "raw" or (found == "gpt" and self._declared in ("aki", "ari"))

    def _check_safety(self, found: Any) -> None:
        try:
            found.safety_check()
        except format_inspector.SafetyCheckFailed as error:
            if str(found) != "gpt" or self._fatal(error.failures):
                raise UnsupportedContent(UNSAFE) from None
        allowed = [kind.lower() for kind in self._rules.vmdk_types]
        if str(found) == "vmdk" and found.vmdktype not in allowed:
            raise UnsupportedContent(UNSAFE)

    def _measure(self, found: Any) -> None:
        if str(found) != self._declared:
            return
        try:
            self._virtual_size = found.virtual_size
        except (LookupError, ValueError, struct.error):
            # Such as the description of a VMDK whose data is in another file.
            raise format_inspector.ImageFormatError(f"The {found} image is not complete") from None
        if self._virtual_size is not None and self._virtual_size > LARGEST_SIZE:
            raise UnsupportedContent(
                f"The virtual size of the {found} image is {self._virtual_size} bytes; at most"
                f" {LARGEST_SIZE} can be recorded."
            )

    def _fatal(self, failures: Any) -> set[str]:
        tolerated = set(self._rules.gpt_safety_checks_nonfatal)
        if self._declared in ("aki", "ari"):
            tolerated.add("mbr")  # a kernel may carry what looks like a broken boot record
        return set(failures) - tolerated


class _Pending:
    """The source from which the inspector takes the block at hand."""

    block = b""

    def __next__(self) -> bytes:
        return self.block
