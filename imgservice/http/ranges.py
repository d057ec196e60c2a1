"""The range of bytes that a request asks for."""

import re

import attrs

from imgservice.domain.errors import Invalid, RangeNotSatisfiable

_RANGE = re.compile(r"bytes=\s*+(\d{0,30}+)\s*+-\s*+(\d{0,30}+)\s*+", re.ASCII | re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,30})-(\d{1,30})/(\*|\d{1,30})", re.ASCII)


@attrs.frozen
class ByteRange:
    start: int
    length: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def wanted_range(range_: str | None, content_range: str | None, size: int) -> ByteRange | None:
    """Return the part that the headers of a request ask for, None for the whole.

    An older form, a Content-Range in the request, is read as well. Several ranges raise `Invalid`;
    a range that is malformed or has no byte raises `RangeNotSatisfiable`.
    """
    if range_ is not None:
        return _parsed(range_, size)
    if content_range is not None:
        return _old_form(content_range, size)
    return None


def _old_form(value: str, size: int) -> ByteRange:
    """Read `bytes FIRST-LAST/SIZE`: unlike a Range it must lie within the image."""
    matched = _CONTENT_RANGE.fullmatch(value.strip())
    if matched is None:
        raise RangeNotSatisfiable("Invalid Content-Range header.", size)
    first, last = int(matched[1]), int(matched[2])
    end = size if matched[3] == "*" else min(size, int(matched[3]))
    if last >= end:
        raise RangeNotSatisfiable(
            "Invalid stop position in Content-Range header:"
            f" byte {last} is behind the end of the image, which has {size} bytes.",
            size,
        )
    return _checked(first, last, size)


def _parsed(value: str, size: int) -> ByteRange:
    if "," in value:
        raise Invalid("Requests with multiple ranges are not supported; ask for one at a time.")
    matched = _RANGE.fullmatch(value.strip())
    if matched is None or matched.groups() == ("", ""):
        raise RangeNotSatisfiable("Invalid Range header.", size)
    first, last = matched.groups()
    if first == "":
        return _suffix(int(last), size)
    return _checked(int(first), int(last) if last else size - 1, size)


def _suffix(count: int, size: int) -> ByteRange:
    count = min(count, size)
    if count == 0:
        raise RangeNotSatisfiable("The Range has no byte.", size)
    return ByteRange(size - count, count)


def _checked(first: int, last: int, size: int) -> ByteRange:
    if first >= size:
        raise RangeNotSatisfiable(
            "Invalid start position in Range header:"
            f" byte {first} is behind the end of the image, which has {size} bytes.",
            size,
        )
    if last < first:
        raise RangeNotSatisfiable("Invalid Range header.", size)
    return ByteRange(first, min(last, size - 1) - first + 1)
