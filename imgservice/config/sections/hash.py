"""The hash of image data."""

from typing import Literal

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class HashOptions:
    algorithm: Literal["sha512", "sha384", "sha256", "sha1", "md5"] = option(
        "sha512",
        "Algorithm of os_hash_value. All nodes that share a database must use the same one.",
    )
