"""From Glance's options of S3 to those of a store of type s3."""

import re

from imgservice.glance_config.authorities import convert_authorities
from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.values import Read, boolean, string, whole

_AMAZON = re.compile(r"s3[.-][a-z0-9-]{1,40}\.amazonaws\.com(?:\.cn)?|s3\.amazonaws\.com")
_LARGEST = 5 * 1024
"""MiB that one part, or an object that is sent whole, may have."""
_OLD_GLANCE = (
    "Glance with glance_store 5.4 or older reads only images whose URLs have the keys. While such"
    " nodes share the database, set legacy_uri: true in the stores of type s3."
)


def convert_s3(conversion: Conversion, group: str, path: tuple[str, ...]) -> None:
    """Convert the options in this section to keys below the path."""
    prefix = f"{group}/s3_store_"
    for name in ("host", "bucket"):
        if not conversion.given.find(prefix + name):
            conversion.mistakes.append(f"[{group}] s3_store_{name}: is not set")
    conversion.option((*path, "host"), host, f"{prefix}host")
    conversion.secret((*path, "access_key"), f"{prefix}access_key")
    conversion.secret((*path, "secret_key"), f"{prefix}secret_key")
    conversion.option((*path, "bucket"), string, f"{prefix}bucket")
    conversion.option((*path, "region"), string, f"{prefix}region_name")
    conversion.option((*path, "create_bucket"), boolean, f"{prefix}create_bucket_on_put")
    conversion.option((*path, "addressing"), _addressing, f"{prefix}bucket_url_format")
    conversion.option((*path, "multipart_from"), _mebibytes(0), f"{prefix}large_object_size")
    conversion.option((*path, "part_size"), _mebibytes(5), f"{prefix}large_object_chunk_size")
    conversion.option((*path, "connections"), _connections, f"{prefix}thread_pools")
    authorities = conversion.given.find(f"{prefix}cacert")
    file = conversion.read(authorities, string)
    if authorities is not None and file:
        convert_authorities(conversion, path, authorities, file)
    elif authorities is not None:
        conversion.ignore(authorities, "is empty")
    _convert_checksums(conversion, prefix, (*path, "checksums"))
    conversion.note("stores", _OLD_GLANCE)


def host(text: str) -> str:
    """Read a URL or a host; for one without a scheme, Glance means http, except on Amazon."""
    if text.startswith(("http://", "https://")):
        return text
    return f"https://{text}" if _AMAZON.fullmatch(text) else f"http://{text}"


def _addressing(text: str) -> str:
    if text not in ("auto", "virtual", "path"):
        raise ValueError(f"expected auto, virtual or path, got {text!r}")
    return text


def _mebibytes(least: int) -> Read[str | int]:
    """Read MiB; what is more than S3 allows has the same effect here as the most that it does."""

    def read(text: str) -> str | int:
        count = min(_LARGEST, whole(least)(text))
        return f"{count}MiB" if count else 0

    return read


def _connections(text: str) -> int:
    return min(100, whole(1)(text))


def _convert_checksums(conversion: Conversion, prefix: str, path: tuple[str, ...]) -> None:
    enabled = conversion.given.find(f"{prefix}enable_data_integrity_protection")
    is_enabled = conversion.read(enabled, boolean)
    if enabled is not None:
        conversion.ignore(enabled, "is told by the keys of checksums")
    for key, name in (
        ("request", "request_checksum_calculation"),
        ("response", "response_checksum_validation"),
    ):
        one = conversion.given.find(prefix + name)
        if one is not None and not is_enabled:
            conversion.ignore(
                one, "has no effect without s3_store_enable_data_integrity_protection"
            )
        else:
            conversion.option((*path, key), _checksum, prefix + name)


def _checksum(text: str) -> str:
    if text not in ("when_required", "when_supported"):
        raise ValueError(f"expected when_required or when_supported, got {text!r}")
    return text
