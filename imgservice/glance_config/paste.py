"""Reads the pipeline from a file for Paste."""

from collections.abc import Sequence

import attrs

from imgservice.glance_config.ini import Assignment

_KINDS = ("composite:", "app:", "filter:", "pipeline:", "filter-app:")

STANDARD: dict[str, Sequence[str]] = {
    "": ["cors", "unauthenticated-context"],
    "caching": ["cors", "unauthenticated-context", "cache"],
    "cachemanagement": ["cors", "unauthenticated-context", "cache", "cachemanage"],
    "keystone": ["cors", "authtoken", "context"],
    "keystone+caching": ["cors", "authtoken", "context", "cache"],
    "keystone+cachemanagement": ["cors", "authtoken", "context", "cache", "cachemanage"],
}
"""The filters of Glance's own flavors, as far as they matter here."""

_FACTORIES = (
    ("keystonemiddleware.auth_token", "authtoken"),
    ("oslo_middleware.basic_auth", "basic"),
    ("oslo_middleware:basicauth", "basic"),
    ("oslo_middleware.cors", "cors"),
    ("oslo_middleware:cors", "cors"),
    ("oslo_middleware:healthcheck", "healthcheck"),
    ("oslo_middleware.healthcheck", "healthcheck"),
    ("middleware.cache:", "cache"),
    ("middleware.cache_manage:", "cachemanage"),
    ("unauthenticatedcontextmiddleware", "unauthenticated-context"),
    ("middleware.context:contextmiddleware", "context"),
    ("version_negotiation", "versionnegotiation"),
    ("httpproxytowsgi", "http_proxy_to_wsgi"),
    ("http_proxy_to_wsgi", "http_proxy_to_wsgi"),
    ("osprofiler", "osprofiler"),
    ("middleware.gzip", "gzip"),
    ("requestid", "request_id"),
)
"""Parts of the names of filter factories, and our names for the filters."""


def is_paste(assignments: Sequence[Assignment]) -> bool:
    return any(one.group.startswith(_KINDS) for one in assignments)


@attrs.frozen
class Filter:
    """A filter: its kind, if known, its name in the file, and its options."""

    kind: str
    name: str
    options: Sequence[Assignment] = ()


class Paste:
    """The sections of a file for Paste."""

    def __init__(self, assignments: Sequence[Assignment]) -> None:
        self._sections: dict[str, dict[str, Assignment]] = {}
        for one in assignments:
            self._sections.setdefault(one.group, {})[one.name] = one

    def filters(self, flavor: str) -> Sequence[Filter] | None:
        """Return the filters of the API; None if there is no such flavor."""
        name = "glance-api" + (f"-{flavor}" if flavor else "")
        pipeline = self._pipeline(name, flavor)
        if pipeline is None:
            return None
        *names, _app = pipeline or [""]
        steps = [self._filter(one, f"filter:{one}") for one in names]
        return [*steps, *self._health(name)]

    def _pipeline(self, name: str, flavor: str) -> list[str] | None:
        if f"pipeline:{name}" in self._sections:
            return self._text(f"pipeline:{name}", "pipeline").split()
        if f"composite:{name}" not in self._sections:
            return None
        app = self._text(f"composite:{name}", "/")
        if f"pipeline:{app}" in self._sections:
            return self._text(f"pipeline:{app}", "pipeline").split()
        return self._text(f"composite:{app}", flavor or "default").split()

    def _health(self, name: str) -> Sequence[Filter]:
        app = self._text(f"composite:{name}", "/healthcheck")
        found = self._filter(app, f"app:{app}")
        return [found] if found.kind == "healthcheck" else []

    def _text(self, section: str, name: str) -> str:
        found = self._sections.get(section, {}).get(name)
        return "" if found is None else found.text

    def _filter(self, name: str, section: str) -> Filter:
        options = self._sections.get(section, {})
        made_by = [key for key in options if key.startswith("paste.") or key == "use"]
        factory = options[made_by[0]].text if made_by else name
        known = (kind for part, kind in _FACTORIES if part in factory.lower())
        own = [one for key, one in options.items() if key not in made_by]
        return Filter(next(known, name), name, own)
