"""Escapes values that clients choose, so that they cannot break or hide lines of the log.

Control characters, line and paragraph separators, and marks of direction are written as escapes of
JSON, in both formats of the log. Values of parameters that may be secrets are left out.
"""

from collections.abc import Sequence

KNOWN = frozenset(
    b"checksum container_format created_at disk_format id limit marker member_status min_disk"
    b" min_ram name os_hash_algo os_hash_value os_hidden owner prefer protected size_max size_min"
    b" sort sort_dir sort_key status tag updated_at visibility".split()
)
"""Parameters of the API whose values are no secrets; of all others only the name is logged."""
HIDDEN = b"***"


def escaped(text: str) -> str:
    """Return the text with every character that is not printable escaped as in JSON."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def words(values: Sequence[str]) -> str:
    """Return the values as the words of a line, without blanks in any of them."""
    line = " ".join(values)
    if line.isprintable() and line.count(" ") == len(values) - 1:
        return line  # as nearly always
    return " ".join(escaped(value).replace(" ", "\\u0020") for value in values)


def target(uri: bytes) -> str:
    """Return what a request asked for, without credentials and values that may be secrets."""
    path, mark, query = uri.partition(b"?")
    if not path.startswith(b"/"):
        path = _without_credentials(path)
    if mark:
        path += mark + b"&".join(map(_parameter, query.split(b"&")))
    return path.decode("latin-1")


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _without_credentials(path: bytes) -> bytes:
    head, mark, rest = path.partition(b"//")
    return head + mark + rest.rpartition(b"@")[2]


def _parameter(parameter: bytes) -> bytes:
    name, equals, value = parameter.partition(b"=")
    if not equals:
        return name if name in KNOWN or not name else HIDDEN
    is_one = b";" not in value and b"=" not in value  # else some would read another one in it
    return parameter if name in KNOWN and is_one else name + equals + HIDDEN
