"""The Images API."""

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Size


@attrs.frozen(kw_only=True)
class ApiOptions:
    page_default: int = option(25, "Images in a list when the client does not say.")
    page_max: int = option(1000, "Most images in a list, whatever the client says.")
    page_bytes: Size = option(
        Size(8 << 20),
        "A page of a list ends before the image with which it would become longer than this; how it"
        " goes on is told by `next`, as always. Each list takes a few times as much memory.",
    )
    max_version: str | None = option(
        None, 'Newest API version to announce, as "2.9": the oldest node behind the same address.'
    )
    max_body: Size = option(Size(1 << 20), "Longest JSON document that is read.")
    max_request_id: int = option(64, "Longest request id taken from a client.")
    schema_file: str | None = option(
        None, "JSON file that describes custom properties which images may, or must, have."
    )
