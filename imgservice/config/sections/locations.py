"""The URLs of image data in documents."""

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class LocationsOptions:
    show: bool = option(
        False, "Show the URLs of image data in documents. They reveal details of the stores."
    )
    direct_url: bool = option(False, "Show the URL that is read first, as direct_url.")
    secure_hash: bool = option(
        True,
        "Read data that users register by its URL, and compare its hash with the one they provide.",
    )
