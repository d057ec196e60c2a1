"""The health check for load balancers."""

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Duration


@attrs.frozen(kw_only=True)
class HealthcheckOptions:
    disable_by_file: str | None = option(
        None, "While this file exists, /healthcheck answers 503 DISABLED BY FILE."
    )
    interval: Duration = option(
        Duration(5), "Seconds between two looks at the database and the stores, which cost little."
    )
