"""The health check of load balancers."""

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Duration


@attrs.frozen(kw_only=True)
class HealthcheckOptions:
    disable_by_file: str | None = option(
        None, "While this file exists, /healthcheck responds 503 DISABLED BY FILE."
    )
    interval: Duration = option(
        Duration(5),
        "Time between two checks of the database and the stores, which are cheap.",
        ge=0.1,
    )
