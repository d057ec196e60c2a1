"""The hash of image data."""

from typing import Literal

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class HashOptions:
    algorithm: Literal["sha512", "sha384", "sha256", "sha1", "md5"] = option(
        "sha512", "Computed for os_hash_value; the same on all nodes of one database."
    )
