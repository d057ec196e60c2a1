"""URLs of Keystone."""

from urllib.parse import urlsplit


def v3_url(url: str) -> str:
    """Return the URL up to and with /v3; `ValueError` says what is wrong with it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or {" ", '"'} & {*url}:
        raise ValueError(f"expected a URL such as https://host/v3, got {url!r}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("has a user, a query or a fragment; credentials have keys of their own")
    base = url.rstrip("/")
    return base if base.endswith("/v3") else f"{base}/v3"
