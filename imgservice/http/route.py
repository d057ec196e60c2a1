"""What a route says of itself; the OpenAPI document is made of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

Content = Mapping[str, Mapping[str, Any]]
"""The schemas of a body, by media type."""

NOTHING: Content = {}
OCTETS: Content = {"application/octet-stream": {}}
OBJECT: Content = {"application/json": {"type": "object"}}

ALWAYS = (400, 401, 403, 404, 429, 431, 503)
"""Errors that any route may answer."""


def named(schema: str) -> Mapping[str, Any]:
    """Refer to a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{schema}"}


def json_of(schema: str) -> Content:
    return {"application/json": named(schema)}


def shows(summary: str) -> "RouteInfo":
    """Describe a route that answers with a JSON object."""
    return RouteInfo(summary, {200: OBJECT})


@attrs.frozen
class RouteInfo:
    summary: str
    answers: Mapping[int, Content]
    """What comes with each status that is no error."""
    errors: Sequence[int] = ()
    """The statuses of errors, besides those of `ALWAYS`."""
    body: Content = NOTHING
    query: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    """The schema of each parameter of the query."""
    headers: Sequence[str] = ()
    """Fields of the request that matter to this route."""
    is_public: bool = False
    """Whether callers need not say who they are."""
