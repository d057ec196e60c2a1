"""The query string of a list: filters, order and page, read into an `ImageQuery`."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl, urlencode

import attrs

from imgservice.domain.context import Context
from imgservice.domain.errors import Invalid
from imgservice.domain.image import Visibility
from imgservice.domain.query import SORT_KEYS, Comparison, Direction, ImageQuery, Operator

EQUALITY = ("name", "status", "container_format", "disk_format", "id", "owner", "checksum",
            "os_hash_algo", "os_hash_value")  # fmt: skip
ONE_OF = ("name", "id", "status", "container_format", "disk_format")
NUMBERS = ("size", "min_ram", "min_disk", "virtual_size")
TIMES = ("created_at", "updated_at")
CONTROLS = frozenset(
    ("limit", "marker", "sort_key", "sort_dir", "sort", "visibility", "member_status", "tag",
     "deleted")
)  # fmt: skip
_VALUE = re.compile(r'\s*+(?:"((?>(?:[^"\\]|\\.)*))"\s*+|([^",]*+))(?:,|\Z)')
"""Never backtracks: what a client writes may be as long as a header line."""

MOST_FILTERS = 128
"""How many custom properties and tags a list can be filtered by."""
MOST_VALUES = 1000
"""How many values all `in:` filters together can have."""
MemberStatus = Literal["accepted", "pending", "rejected", "all"]


@attrs.frozen
class Paging:
    default: int = 25
    maximum: int = 1000
    most_bytes: int = 8 << 20


def parse_query(raw: bytes) -> list[tuple[str, str]]:
    """Decode a query string, in its order; `Invalid` where it is not UTF-8."""
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise Invalid("The query of the request is not valid.") from None


def image_query(pairs: Sequence[tuple[str, str]], context: Context, paging: Paging) -> ImageQuery:
    """Read the parameters of a list request as a query of its caller."""
    given = dict(pairs)
    columns, properties = _filters([pair for pair in pairs if pair[0] not in CONTROLS])
    tags = tuple(dict.fromkeys(value for name, value in pairs if name == "tag"))
    _check_number(columns, len(properties) + len(tags))
    return ImageQuery(
        project=context.project,
        is_admin=context.is_admin,
        limit=_limit(given.get("limit"), paging),
        most_bytes=paging.most_bytes,
        marker=given.get("marker"),
        sort=_sort(pairs),
        where=tuple(columns),
        properties=tuple(properties),
        tags=tags,
        visibility=_visibility(given.get("visibility")),
        member_status=_member_status(given.get("member_status")),
        os_hidden=_boolean("os_hidden", given.get("os_hidden", "false").lower()),
    )


def links(pairs: Sequence[tuple[str, str]], last_id: str | None) -> dict[str, str]:
    """Return the `first` link, and `next` when the page after `last_id` may have more.

    They keep every parameter, even repeated ones.
    """
    kept = [pair for pair in pairs if pair[0] != "marker"]
    found = {"first": _link(kept)}
    if last_id is not None:
        found["next"] = _link([*kept, ("marker", last_id)])
    return found


def _link(pairs: Sequence[tuple[str, str]]) -> str:
    return f"/v2/images?{urlencode(pairs)}" if pairs else "/v2/images"


# -- pages and order ------------------------------------------------------------------------------


def _limit(value: str | None, paging: Paging) -> int:
    if value is None:
        return paging.default
    try:
        limit = int(value[:20])
    except ValueError:
        raise Invalid("limit param must be an integer") from None
    if limit < 0:
        raise Invalid("limit param must be positive")
    return min(limit, paging.maximum)


def _sort(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, Direction], ...]:
    keys = [value for name, value in pairs if name == "sort_key"]
    directions = [value for name, value in pairs if name == "sort_dir"]
    compact = [value for name, value in pairs if name == "sort"]
    if compact and (keys or directions):
        raise Invalid("Old and new sorting syntax cannot be combined")
    if len(compact) > 1:
        raise Invalid("The sort parameter is there more than once")
    wanted = _compact(compact[0]) if compact else _classic(keys, directions)
    given = [direction for _, direction in wanted] if compact else directions
    return _completed(wanted, _direction(given[0]) if len(given) == 1 else "desc")


def _compact(value: str) -> list[tuple[str, Direction]]:
    wanted = []
    for part in value.split(","):
        key, _, direction = part.strip().partition(":")
        wanted.append((_sort_key(key), _direction(direction or "desc")))
    return wanted


def _classic(keys: list[str], directions: list[str]) -> list[tuple[str, Direction]]:
    if len(directions) > 1 and len(directions) != len(keys):
        raise Invalid("Number of sort dirs does not match the number of sort keys")
    if len(directions) <= 1:
        directions = (directions or ["desc"]) * len(keys)
    return [(_sort_key(k), _direction(d)) for k, d in zip(keys, directions, strict=True)]


def _completed(
    wanted: list[tuple[str, Direction]], default: Direction
) -> tuple[tuple[str, Direction], ...]:
    """Drop repeated keys, which change nothing, and add those that make the order unique."""
    order: dict[str, Direction] = {}
    for key, direction in (*wanted, ("created_at", default), ("id", default)):
        order.setdefault(key, direction)
    return tuple(order.items())


def _sort_key(key: str) -> str:
    if key not in SORT_KEYS:
        raise Invalid(
            f"Invalid sort key: {key}. It must be one of the following: {', '.join(SORT_KEYS)}."
        )
    return key


def _direction(value: str) -> Direction:
    if value not in get_args(Direction):
        raise Invalid(f"Invalid sort direction: {value}")
    return cast(Direction, value)


# -- filters --------------------------------------------------------------------------------------


def _filters(
    pairs: Sequence[tuple[str, str]],
) -> tuple[list[Comparison], list[tuple[str, str]]]:
    """Split into conditions on the image's own columns and on custom properties."""
    columns: list[Comparison] = []
    properties: list[tuple[str, str]] = []
    for name, value in dict(pairs).items():
        found = _column(name, value)
        if found is not None:
            columns.append(found)
        elif name != "os_hidden":
            properties.append((name, value))
    return columns, properties


def _check_number(columns: Sequence[Comparison], others: int) -> None:
    """Raise `Invalid` for more filters than a database can apply in a reasonable time."""
    if others > MOST_FILTERS:
        raise Invalid(f"At most {MOST_FILTERS} tags and custom properties can be asked for.")
    values = sum(len(one.value) for one in columns if isinstance(one.value, tuple))
    if values > MOST_VALUES:
        raise Invalid(f"At most {MOST_VALUES} values can be listed after in:.")


def _column(name: str, value: str) -> Comparison | None:
    base, _, bound = name.rpartition("_")
    if name == "changes-since":
        raise Invalid('The "changes-since" filter is no longer available on v2.')
    if bound in ("min", "max") and base in NUMBERS:
        return Comparison(base, "gte" if bound == "min" else "lte", _integer(name, value))
    if name in NUMBERS:
        return Comparison(name, "eq", _integer(name, value))
    if name in TIMES:
        return _time(name, value)
    if name == "protected":
        return Comparison(name, "eq", _boolean(name, value))
    if name in EQUALITY:
        return _text(name, value)
    return None


def _text(name: str, value: str) -> Comparison:
    if name not in ONE_OF or ":" not in value:
        return Comparison(name, "eq", value)
    operator, _, rest = value.partition(":")
    if operator == "in":
        return Comparison(name, "in", tuple(split_values(rest)))
    if operator == "eq":
        return Comparison(name, "eq", rest)
    raise Invalid(f"Unable to filter by unknown operator '{operator}'.")


def split_values(text: str) -> list[str]:
    """Split `a,"b,c","d\\"e"` at its commas; `Invalid` when quotes do not pair up."""
    values, position = [], 0
    while True:
        matched = _VALUE.match(text, position)
        if matched is None:
            raise Invalid(f"Invalid filter value {text}. The quote is not closed or misplaced.")
        quoted, plain = matched.groups()
        values.append(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain.strip())
        position = matched.end()
        if position >= len(text):
            if text.endswith(",") and not matched.group(0).endswith('"'):
                values.append("")
            return values


def _time(name: str, value: str) -> Comparison:
    operator, colon, rest = value.partition(":")
    if operator not in get_args(Operator) or operator == "in" or not colon:
        if colon and operator.isalpha():
            raise Invalid(f"Unable to filter by unknown operator '{operator}'.")
        operator, rest = "eq", value
    try:
        moment = datetime.fromisoformat(rest.strip())
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise Invalid(
            f'Bad "{name}" query filter format. Use ISO 8601 DateTime notation.'
        ) from None
    return Comparison(name, cast(Operator, operator), moment)


def _integer(name: str, value: str) -> int:
    try:
        return int(value[:20])  # longer numbers are beyond any value of an image
    except ValueError:
        raise Invalid(f"Unable to filter on a range with a non-numeric value for {name}.") from None


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise Invalid(
            f"Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'."
        )
    return value == "true"


def _visibility(value: str | None) -> Visibility | Literal["all"] | None:
    if value is None:
        return None
    if value == "all":
        return "all"
    if value not in tuple(Visibility):
        raise Invalid(f"Invalid visibility value: {value}")
    return Visibility(value)


def _member_status(value: str | None) -> MemberStatus:
    if value is None:
        return "accepted"
    if value not in get_args(MemberStatus):
        raise Invalid(f"Invalid status: {value}")
    return cast(MemberStatus, value)
