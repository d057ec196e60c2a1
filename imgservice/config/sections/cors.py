"""Cross-origin requests of browsers."""

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Duration


@attrs.frozen(kw_only=True)
class CorsOptions:
    allowed_origins: tuple[str, ...] = option(
        (), 'Origins whose pages may call the API. "*": all. Empty: CORS is off.'
    )
    allow_credentials: bool = option(True, "Allow these pages to send credentials.")
    max_age: Duration = option(
        Duration(3600), "How long browsers may cache the response to a preflight request."
    )
