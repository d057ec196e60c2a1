"""Cross-origin requests from browsers."""

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Duration


@attrs.frozen(kw_only=True)
class CorsOptions:
    allowed_origins: tuple[str, ...] = option(
        (), 'Origins whose pages may call the API from a browser; "*" is all; none: no CORS.'
    )
    allow_credentials: bool = option(True, "Whether such a page may send credentials.")
    max_age: Duration = option(Duration(3600), "How long a browser may remember the answer.")
