"""URLs of objects in Swift, in all forms that releases of Glance have written.

    swift+config://REFERENCE/CONTAINER/NAME
    swift+https://USER:KEY@HOST/PATH/CONTAINER/NAME
    swift+https://HOST/PATH/CONTAINER/NAME

`swift+http` has the same form, and `swift` means `swift+https`. HOST/PATH is where tokens come
from. Only the first form is written: it holds no key.
"""

import re
from urllib.parse import unquote

import attrs

from imgservice.store.names import OBJECT_NAME

_SCHEMES = ("swift", "swift+http", "swift+https")
_VERSION = re.compile(r"v[0-9.]+")


@attrs.frozen
class Address:
    """What a URL says; either `reference` or `auth` says whose the container is."""

    container: str
    name: str
    reference: str | None = None
    auth: str | None = None
    """As of `auth_address`."""
    user: str | None = None


def write_url(reference: str, container: str, name: str) -> str:
    return f"swift+config://{reference}/{container}/{name}"


def read_url(url: str) -> Address | None:
    """Return what the URL says, None if it is none of Swift's; the key in it is not returned."""
    scheme, separator, rest = url.partition("://")
    if not separator or "://" in rest:
        return None
    credentials, _, place = rest.rpartition("@")
    host, _, name = place.rpartition("/")
    host, _, container = host.rpartition("/")
    if not (host and container and OBJECT_NAME.fullmatch(name)):
        return None
    if scheme == "swift+config":
        return None if credentials else Address(container, name, reference=host)
    if scheme not in _SCHEMES:
        return None
    user = unquote(credentials).rpartition(":")[0] or None
    return Address(container, name, auth=auth_address(host), user=user)


def auth_address(url: str) -> str:
    """Return the host and path of the URL, without what may differ for the same service."""
    host, slash, path = url.rpartition("://")[2].strip("/").partition("/")
    parent, _, last = path.rpartition("/")
    if _VERSION.fullmatch(last):
        slash, path = "/" if parent else "", parent
    return f"{host.lower()}{slash}{path}"


def container_of(prefix: str, seed: int, image_id: str) -> str:
    """Return the container of an image; the dashes among the first characters do not count."""
    if seed == 0:
        return prefix
    text = image_id.lower()
    return f"{prefix}_{text[: seed + text[:seed].count('-')]}"


def is_container_of(container: str, prefix: str, image_id: str) -> bool:
    """Tell whether the container is the image's, whatever the seed was when it was written."""
    rest = container.removeprefix(prefix)
    if rest == container:
        return False
    return rest == "" or (len(rest) > 1 and f"_{image_id.lower()}".startswith(rest))
