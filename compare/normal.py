"""Answers without what differs from run to run: ids, times, request ids, names of hosts."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs

from compare.servers import Reply

HEADERS = (
    "accept-patch",
    "allow",
    "content-md5",
    "content-range",
    "content-type",
    "location",
    "openstack-image-import-methods",
    "openstack-image-store-ids",
    "retry-after",
    "www-authenticate",
    "x-openstack-request-id",
    # Glance sends none of these.
    "accept-ranges",
    "etag",
    "last-modified",
    "repr-digest",
)
SHORT = 256
"""Bodies that are no JSON and longer than this are compared by their hash."""

_SETS = ("tags", "members", "locations")
"""Lists whose order is left to chance by Glance, as is that of `stores`."""

_PATTERNS = (
    (re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<request>"),
    (re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"), "<time>"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "<time>"),
    (re.compile(r"https?://[\w.\-]+(:\d+)?"), "<url>"),
    (re.compile(r"file:///[^\s\"']*/"), "file:///<path>/"),
)


@attrs.frozen
class Response:
    """What is compared of an answer."""

    status: int
    headers: Mapping[str, str]
    body: Any


@attrs.frozen
class Names:
    """The values of one run, by the names that stand for them."""

    values: Mapping[str, str]
    images: frozenset[str]
    """The ids of the images that the run made: lists are cut down to these."""

    @cached_property
    def _longest_first(self) -> Sequence[tuple[str, str]]:
        return sorted(self.values.items(), key=lambda item: -len(item[1]))

    def text(self, text: str) -> str:
        """Write names and placeholders for what no other run has."""
        for name, value in self._longest_first:
            text = text.replace(value, f"<{name}>")
        if "-" in text or ":" in text:  # each pattern has one of them
            for pattern, placeholder in _PATTERNS:
                text = pattern.sub(placeholder, text)
        return text


def normal_answer(reply: Reply, names: Names) -> Response:
    headers = {name: reply.headers[name] for name in HEADERS if name in reply.headers}
    return Response(
        reply.status,
        {name: _normal_header(name, value, names) for name, value in headers.items()},
        _normal_body(reply, names),
    )


def _normal_header(name: str, value: str, names: Names) -> str:
    if name in ("etag", "repr-digest"):
        return "<hash>"
    if name == "openstack-image-import-methods":
        return ",".join(sorted(value.replace(" ", "").split(",")))
    return names.text(value)


def _normal_body(reply: Reply, names: Names) -> Any:
    kind = reply.headers.get("content-type", "")
    if kind.startswith("application/json") and reply.body:
        try:
            document = json.loads(reply.body)
        except ValueError:
            return {"not JSON": True}
        return _error(document) if reply.status >= 400 else normal(document, names)
    if reply.status >= 400:
        return {"empty": not reply.body}
    return _octets(reply.body, names)


def _error(document: Any) -> Any:
    """Keep what programs read; the message is for users."""
    if not isinstance(document, dict):
        return document
    return {name: type(v).__name__ if name == "message" else v for name, v in document.items()}


def _octets(body: bytes, names: Names) -> Any:
    if len(body) > SHORT:
        digest = hashlib.sha256(body).hexdigest()
        return {"length": len(body), "sha256": digest}
    return names.text(body.decode("latin-1"))


def normal(value: Any, names: Names, key: str = "") -> Any:
    """Return a JSON value in which only what can be told in advance is left."""
    if key == "data_dir":
        return "<path>"
    if key == "stores" and isinstance(value, str):
        return ",".join(sorted(value.split(",")))
    if isinstance(value, str):
        return _query(value, names) if key in ("next", "first") else names.text(value)
    if isinstance(value, list):
        if key == "images":
            value = [one for one in value if _is_known(one, names)]
        items = [normal(one, names) for one in value]
        return sorted(items, key=_text) if key in _SETS or _are_locations(value) else items
    if isinstance(value, dict):
        return {names.text(name): normal(one, names, name) for name, one in value.items()}
    return value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _are_locations(value: Any) -> bool:
    return all(isinstance(one, dict) and one.keys() == {"url", "metadata"} for one in value)


def _is_known(image: Any, names: Names) -> bool:
    return not isinstance(image, dict) or image.get("id") in names.images


def _query(link: str, names: Names) -> dict[str, Any]:
    """The order of the parameters of a link means nothing, but for repeated ones."""
    split = urlsplit(link)
    parameters: dict[str, list[str]] = {}
    for name, value in parse_qsl(split.query, keep_blank_values=True):
        parameters.setdefault(names.text(name), []).append(names.text(value))
    return {"path": names.text(link.partition("?")[0]), "query": parameters}
