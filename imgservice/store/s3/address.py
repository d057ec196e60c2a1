"""Where objects are: the URLs of requests, and those that are recorded with images."""

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import attrs

from imgservice.store.names import OBJECT_NAME

_SCHEMES: Mapping[str, str] = {"s3": "http", "s3+http": "http", "s3+https": "https"}
_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
_REGION = re.compile(r"[a-z]{2}-[a-z-]{4,20}[0-9]")


@attrs.frozen
class Address:
    """A bucket of a server."""

    scheme: str
    authority: str
    """The host and, unless it is the usual one, the port; as it is in the configuration."""
    path: str
    """Of the service, without a slash at its end."""
    bucket: str
    is_virtual: bool

    @classmethod
    def of(cls, host: str, bucket: str, is_virtual: bool) -> "Address":
        """Read the URL of a service; `ValueError` says what is wrong, and does not repeat it."""
        parts = urlsplit(host)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL such as https://s3.example.com:9000")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("expected a URL without credentials and parameters")
        parts.port  # noqa: B018 # raises ValueError
        return cls(parts.scheme, parts.netloc, parts.path.rstrip("/"), bucket, is_virtual)

    @property
    def region(self) -> str | None:
        """Return the region, if the host says it."""
        host = host_of(f"{self.scheme}://{self.authority}").removesuffix(".cn")
        name = host.removesuffix(".amazonaws.com").rpartition(".")[2].removeprefix("s3-")
        is_amazon = host.endswith(".amazonaws.com")
        return name if is_amazon and _REGION.fullmatch(name) else None

    @property
    def place(self) -> str:
        """Return the address for operators."""
        return f"{self.scheme}://{self.authority}{self.path}/{self.bucket}"

    def request_url(self, key: str = "", query: str = "") -> str:
        """Return the URL to which a request for the bucket, or an object in it, is sent."""
        host = f"{self.bucket}.{self.authority}" if self.is_virtual else self.authority
        path = "" if self.is_virtual else f"/{quote(self.bucket)}"
        rest = f"/{quote(key)}" if key or self.is_virtual else ""
        return f"{self.scheme}://{host}{self.path}{path}{rest}{'?' if query else ''}{query}"

    @property
    def host_header(self) -> str:
        """Return the host, and the port unless it is the scheme's own, of the requests."""
        host, port = _host_and_port(self.authority, self.scheme)
        text = host if port == _PORTS[self.scheme] else f"{host}:{port}"
        return f"{self.bucket}.{text}" if self.is_virtual else text

    def object_url(self, key: str, credentials: str = "") -> str:
        """Return the URL that is recorded, in the form of Glance."""
        scheme = "s3" if self.scheme == "http" else "s3+https"
        at = "@" if credentials else ""
        return f"{scheme}://{credentials}{at}{self.authority}{self.path}/{self.bucket}/{key}"

    def key(self, url: str) -> str | None:
        """Return the key of an object in this bucket, None for every other URL.

        Older releases of Glance wrote keys into URLs, without quoting: they end at the last @.
        """
        scheme, separator, rest = url.partition("://")
        if scheme not in _SCHEMES or not separator or "://" in rest:
            return None
        rest = rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
        service, _, bucket = rest.rpartition("/")[0].rpartition("/")
        key = rest.rpartition("/")[2]
        is_own = bucket == self.bucket and self._is_own(service, _SCHEMES[scheme])
        return key if is_own and OBJECT_NAME.fullmatch(key) else None

    def _is_own(self, service: str, scheme: str) -> bool:
        authority, slash, path = service.partition("/")
        if f"{slash}{path}".rstrip("/") != self.path or not authority:
            return False
        try:
            theirs = _host_and_port(authority, scheme)
        except ValueError:
            return False
        return theirs == _host_and_port(self.authority, self.scheme) or (
            # Without a port, Glance's schemes do not always say which one was meant.
            authority.lower() == self.authority.lower()
        )


def host_of(url: str) -> str:
    """Return the host of a URL, empty if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _host_and_port(authority: str, scheme: str) -> tuple[str, int]:
    """Split an authority; `ValueError` if it is none. Addresses of IPv6 keep their brackets."""
    parts = urlsplit(f"//{authority}")
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host, parts.port or _PORTS[scheme]
