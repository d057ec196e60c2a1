"""URLs of locations, in all forms that releases of Glance and its stores wrote."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

# Keys for S3 and Swift were once written unquoted, with slashes.
_CREDENTIALS = re.compile(r"^((?:s3|swift)[^:/]*://).*@|(?<=://)[^/?#]*@", re.DOTALL | re.I)
# At least two blocks of 16 bytes, in URL-safe base64.
_ENCRYPTED = re.compile(r"[A-Za-z0-9_-]{42,}={0,2}")
_NAME = re.compile(r"[^/?#]+")


@attrs.frozen
class ParsedLocation:
    """Where data is stored, as far as the URL shows it, without credentials."""

    kind: str
    """Of the store: file, http, s3, rbd, swift, cinder or vmware."""
    name: str
    """Of the object, image or volume; on a web server, the whole path."""
    container: str = ""
    """Of the directory, bucket, pool, container or data store with the object."""
    host: str = ""
    """Of the server or cluster with the container, or a reference in Glance's configuration."""
    store: str | None = None
    """The id of the store, if the URL contains it."""


def public_url(url: str) -> str:
    """Return the URL without the credentials that it may carry."""
    return _CREDENTIALS.sub(r"\1", url, count=1)


def is_encrypted(url: str) -> bool:
    """Tell whether Glance has encrypted the URL (`metadata_encryption_key`)."""
    return _ENCRYPTED.fullmatch(url) is not None


def parse_location(url: str) -> ParsedLocation | None:
    """Parse the URL; None when no store of Glance writes such URLs."""
    scheme, separator, rest = public_url(url).partition("://")
    read = _READERS.get(scheme.lower()) if separator else None
    try:
        return read(scheme.lower(), rest) if read is not None else None
    except ValueError:  # for example an address whose brackets do not match
        return None


def _file(scheme: str, rest: str) -> ParsedLocation | None:
    directory, _, name = rest.rpartition("/")
    return ParsedLocation("file", name, directory) if name and directory.startswith("/") else None


def _http(scheme: str, rest: str) -> ParsedLocation | None:
    parts = urlsplit(f"{scheme}://{rest}")
    path = parts._replace(scheme="", netloc="").geturl() or "/"
    return ParsedLocation("http", path, host=f"{scheme}://{parts.netloc}") if parts.netloc else None


def _s3(scheme: str, rest: str) -> ParsedLocation | None:
    return _in_container("s3", "https" if scheme == "s3+https" else "http", rest)


def _swift(scheme: str, rest: str) -> ParsedLocation | None:
    if scheme == "swift+config":
        return _in_container("swift", "config", rest)
    return _in_container("swift", "http" if scheme == "swift+http" else "https", rest)


def _in_container(kind: str, scheme: str, rest: str) -> ParsedLocation | None:
    """Read the server, with its path if any, the container and the object."""
    *server, container, name = ["", "", *rest.strip("/").split("/")]
    host = "/".join(filter(None, server))
    if not (host and container and name):
        return None
    return ParsedLocation(kind, unquote(name), unquote(container), f"{scheme}://{host}")


def _rbd(scheme: str, rest: str) -> ParsedLocation | None:
    pieces = [unquote(piece) for piece in rest.split("/")]
    if not all(pieces) or len(pieces) not in (1, 4):
        return None
    if len(pieces) == 1:
        return ParsedLocation("rbd", pieces[0])
    cluster, pool, name, _ = pieces
    return ParsedLocation("rbd", name, pool, cluster)


def _cinder(scheme: str, rest: str) -> ParsedLocation | None:
    store, _, volume = rest.rpartition("/")
    if not _NAME.fullmatch(volume) or (store and not _NAME.fullmatch(store)):
        return None
    return ParsedLocation("cinder", volume, store=store or None)


def _vmware(scheme: str, rest: str) -> ParsedLocation | None:
    parts = urlsplit(f"vsphere://{rest}")
    query = parse_qs(parts.query)
    center, data_store = (query.get(name, [""])[0] for name in ("dcPath", "dsName"))
    name = unquote(parts.path.rpartition("/")[2])
    if not (parts.netloc and name):
        return None
    return ParsedLocation("vmware", name, f"{center}/{data_store}", parts.netloc)


_READERS: Mapping[str, Callable[[str, str], ParsedLocation | None]] = {
    "file": _file,
    "filesystem": _file,
    "http": _http,
    "https": _http,
    "s3": _s3,
    "s3+http": _s3,
    "s3+https": _s3,
    "rbd": _rbd,
    "swift": _swift,
    "swift+http": _swift,
    "swift+https": _swift,
    "swift+config": _swift,
    "cinder": _cinder,
    "vsphere": _vmware,
}
