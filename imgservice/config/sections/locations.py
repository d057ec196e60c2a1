"""The URLs of image data."""

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class LocationsOptions:
    show: bool = option(
        False, "Whether images show the URLs of their data, which tells a lot about the stores."
    )
    direct_url: bool = option(False, "Whether they show the one that is read first.")
    secure_hash: bool = option(
        True, "Whether data that others have put at its place is read, checked and hashed."
    )
