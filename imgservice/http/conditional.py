"""Conditional requests: reads of what a client has already, and writes that expect a state.

An invalid list of entity tags matches nothing: a write with such a condition is refused, and a
read is answered in full. Invalid dates are ignored, as RFC 9110 says.
"""

import re
from datetime import UTC, datetime
from typing import Literal, Protocol

import attrs
from werkzeug.http import http_date, parse_date

from imgservice.domain.errors import PreconditionFailed
from imgservice.http.response import Response

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*+)"')
_TAGS = re.compile(rf"[\s,]*+{_TAG.pattern}(?>(?:\s*+,[\s,]*+{_TAG.pattern})*)[\s,]*+")
_LONGEST_DATE = 64
_GZIP = "-gzip"

Comparison = Literal["strong", "weak"]


class HasHeader(Protocol):
    """A request, as conditions see it."""

    def header(self, name: str) -> str | None: ...

    def header_values(self, name: str) -> list[str]: ...


@attrs.frozen
class Validators:
    """What tells one state of a representation from another; `etag` has its quotes, and is
    strong; `modified` is naive UTC."""

    etag: str | None = None
    modified: datetime | None = None

    def headers(self) -> dict[str, str]:
        found = {}
        if self.etag is not None:
            found["etag"] = self.etag
        if self.modified is not None:
            found["last-modified"] = http_date(self.modified)
        return found


def read_date(text: str) -> datetime | None:
    """Return the naive UTC time of an HTTP date, None when it is invalid."""
    try:
        moment = parse_date(text.strip()[:_LONGEST_DATE])
        return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (OverflowError, IndexError):
        return None


def matches(listed: str, etag: str | None, comparison: Comparison) -> bool:
    """Tell whether a list of entity tags has this one; `*` matches everything."""
    if listed.strip() == "*":
        return True
    if etag is None or not _TAGS.fullmatch(listed):
        return False
    return any(
        f'"{tag.removesuffix(_GZIP)}"' == etag and (comparison == "weak" or not weak)
        for weak, tag in _TAG.findall(listed)
    )


def gzip_tag(etag: str) -> str:
    """Return the entity tag of the compressed form, which matches that of the state, too."""
    return f'{etag[:-1]}{_GZIP}"'


def check_unchanged(request: HasHeader, validators: Validators) -> None:
    """Raise `PreconditionFailed` when the client expects another state than this one."""
    listed = _list(request, "if-match")
    if listed is None:
        _check_age(request, validators.modified)
    elif not matches(listed, validators.etag, "strong"):
        raise PreconditionFailed("The entity tag in If-Match is not that of the current state.")


def _check_age(request: HasHeader, modified: datetime | None) -> None:
    limit = _date(request, "if-unmodified-since")
    if limit is not None and modified is not None and modified.replace(microsecond=0) > limit:
        raise PreconditionFailed("It was modified after the date in If-Unmodified-Since.")


def is_known(request: HasHeader, validators: Validators) -> bool:
    """Tell whether the client has this state already, so that the answer is 304."""
    listed = _list(request, "if-none-match")
    if listed is not None:
        return matches(listed, validators.etag, "weak")
    since = _date(request, "if-modified-since")
    if since is None or validators.modified is None:
        return False
    return validators.modified.replace(microsecond=0) <= since


def not_modified(validators: Validators) -> Response:
    return Response(304, headers=validators.headers())


def wants_part(request: HasHeader, validators: Validators) -> bool:
    """Tell whether Range applies: If-Range asks for everything when something has changed."""
    condition = request.header("if-range")
    if condition is None:
        return True
    if _TAG.fullmatch(condition.strip()):
        return matches(condition, validators.etag, "strong")
    moment = read_date(condition)
    return (
        moment is not None
        and validators.modified is not None
        and moment == validators.modified.replace(microsecond=0)
    )


def _list(request: HasHeader, name: str) -> str | None:
    values = request.header_values(name)
    return ",".join(values) if values else None


def _date(request: HasHeader, name: str) -> datetime | None:
    text = request.header(name)
    return None if text is None else read_date(text)
