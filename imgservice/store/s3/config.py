"""The options of a store of type `s3`."""

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Literal

import attrs

from imgservice.domain.options import Mistake, option, required, section
from imgservice.domain.units import Duration, Secret, Size
from imgservice.net.tls import authorities
from imgservice.store.registry import StoreConfig
from imgservice.store.s3.address import Address, host_of

SMALLEST_PART = 5 << 20
LARGEST_PART = 5 << 30
"""What S3 allows."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_BUCKET_OF_A_HOST = re.compile(r"[a-z0-9][a-z0-9.-]{2,62}")
Checksum = Literal["when_required", "when_supported"]


@attrs.frozen(kw_only=True)
class Checksums:
    """Checksums beside those of the image, between this service and the server."""

    request: Checksum = option(
        "when_required",
        "Send a CRC32 with data, which the server verifies, also where it need not.",
    )
    response: Checksum = option(
        "when_required", "Ask for the checksum of each whole object that is read, and verify it."
    )


@attrs.frozen(kw_only=True)
class S3Config(StoreConfig):
    """The options of a store of type `s3`."""

    host: str = required("URL of the service, such as https://s3.eu-west-1.amazonaws.com.")
    bucket: str = required("The bucket of the objects.")
    access_key: Secret | None = option(
        None, "The access key id. null: credentials are found as by other clients of AWS."
    )
    secret_key: Secret | None = option(None, "The secret access key.")
    session_token: Secret | None = option(None, "The token of temporary keys.")
    region: str | None = option(
        None, "The region for signatures. null: by the host, the environment, or us-east-1."
    )
    create_bucket: bool = option(False, "Create the bucket if it does not exist.")
    addressing: Literal["auto", "virtual", "path"] = option(
        "auto",
        "Whether the bucket is part of the host name (virtual) or of the path. auto: virtual on"
        " amazonaws.com, if the name of the bucket allows it.",
    )
    multipart_from: Size = option(
        Size(100 << 20), "Images of at least this size are sent in parts. 0: all of them.",
        le=LARGEST_PART,
    )  # fmt: skip
    part_size: Size = option(
        Size(10 << 20),
        "Size of a part. It grows if an image would have more than 10,000 parts.",
        ge=SMALLEST_PART,
        le=LARGEST_PART,
    )
    connections: int = option(10, "Parts of an image that are sent at the same time.", ge=1, le=100)
    ca_file: str | None = option(
        None, "PEM file with the authorities to trust. null: those of the system."
    )
    checksums: Checksums = section(
        Checksums, "Checksums of the transfer, which not every server understands."
    )
    legacy_uri: bool = option(
        False,
        "Write URLs with the keys in them, for nodes of Glance with glance_store 5.4 or older.",
    )
    connect_timeout: Duration = option(Duration(10), "Timeout of a connection attempt.", gt=0)
    timeout: Duration = option(
        Duration(60), "Timeout of an answer, and of each piece of data in both directions.", gt=0
    )

    def __attrs_post_init__(self) -> None:
        if find_spec("botocore") is None:
            raise ValueError("the type s3 needs botocore: pip install 'imgservice[s3]'")
        authorities(self.ca_file)

    def contradictions(self) -> Iterator[Mistake]:
        for name, complaint in (("host", _host_complaint(self.host)), *self._key_complaints()):
            if complaint:
                yield [name], complaint
        if not _BUCKET.fullmatch(self.bucket):
            yield ["bucket"], "is no name of a bucket"
        elif self.addressing == "virtual" and not _BUCKET_OF_A_HOST.fullmatch(self.bucket):
            yield ["addressing"], "virtual needs a bucket whose name can be part of a host name"

    def _key_complaints(self) -> Iterator[tuple[str, str]]:
        if (self.access_key is None) != (self.secret_key is None):
            yield "secret_key", "access_key and secret_key belong together"
        elif self.access_key is None and self.session_token is not None:
            yield "session_token", "needs access_key and secret_key"
        elif self.access_key is None and self.legacy_uri:
            yield "legacy_uri", "needs access_key and secret_key, which the URLs contain"

    @property
    def address(self) -> Address:
        """Return where the bucket is."""
        is_virtual = self.addressing == "virtual" or (
            self.addressing == "auto"
            and host_of(self.host).endswith((".amazonaws.com", ".amazonaws.com.cn"))
            and "." not in self.bucket
            and _BUCKET_OF_A_HOST.fullmatch(self.bucket) is not None
        )
        return Address.of(self.host, self.bucket, is_virtual)

    def details(self) -> Mapping[str, object]:
        return {
            "s3_store_large_object_size": self.multipart_from,
            "s3_store_large_object_chunk_size": self.part_size,
            "s3_store_thread_pools": self.connections,
        }


def _host_complaint(host: str) -> str | None:
    """Return what is wrong with the URL; it is not shown, since it could contain a key."""
    try:
        Address.of(host, "bucket", False)
    except ValueError as error:
        return str(error)
    return None
