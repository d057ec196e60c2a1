"""The Images API."""

from collections.abc import Iterator

import attrs

from imgservice.config.forms import VERSION
from imgservice.domain.options import Mistake, option
from imgservice.domain.units import Size


@attrs.frozen(kw_only=True)
class ApiOptions:
    page_default: int = option(
        25, "Images on a page of a list, unless the client sets `limit`.", ge=1
    )
    page_max: int = option(1000, "Maximum number of images on a page of a list.", ge=1)
    page_bytes: Size = option(
        Size(8 << 20),
        "Maximum size of a page of a list. A page that would exceed it ends early, with a `next`"
        " link as usual. A list uses several times this memory while it is made.",
        ge=1 << 16,
    )
    max_version: str | None = option(
        None,
        'Newest API version to announce, such as "2.9". Behind a shared address, set it to the'
        " version of the oldest node. null: all versions.",
        form=VERSION,
    )
    max_body: Size = option(Size(1 << 20), "Maximum size of a JSON request body.", ge=1024)
    max_request_id: int = option(
        64, "Maximum length of a request id that is accepted from a client.", ge=1
    )
    schema_file: str | None = option(
        None, "JSON file that describes custom properties which images may or must have."
    )

    def contradictions(self) -> Iterator[Mistake]:
        if self.page_default > self.page_max:
            yield ["page_default"], "must be at most api.page_max"
