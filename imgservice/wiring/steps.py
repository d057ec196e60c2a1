"""Makes the steps of the pipeline from the configuration."""

from collections.abc import Callable, Mapping, Sequence

from imgservice.api.middleware.context import RequireContext
from imgservice.api.middleware.cors import Cors
from imgservice.api.middleware.gzip import Gzip
from imgservice.api.middleware.proxy_headers import ProxyHeaders
from imgservice.api.middleware.public import UnlessPublic
from imgservice.api.middleware.request_id import RequestId
from imgservice.api.middleware.version import ONE_STORE, SEVERAL_STORES, VersionNegotiation
from imgservice.api.v2.table import ROUTES
from imgservice.concurrency.threads import Threads
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.domain.access import Rules
from imgservice.http.networks import networks
from imgservice.http.pipeline import PipelineError, Step, check_order
from imgservice.wiring.authentication import Authentication
from imgservice.wiring.rates import make_rate_steps


def make_steps(
    config: Config, rules: Rules, authentication: Authentication, threads: Threads
) -> Sequence[Step]:
    """Make the steps that the configuration lists, in its order; `OptionError` for a wrong one."""
    _check_order(config)
    address_limit, rate_limit = make_rate_steps(config)
    makers: Mapping[str, Callable[[], Step]] = {
        "proxy_headers": lambda: ProxyHeaders(networks(config.server.trusted_proxies)),
        "cors": lambda: Cors(
            config.cors.allowed_origins, config.cors.allow_credentials, config.cors.max_age
        ),
        "request_id": lambda: RequestId(config.api.max_request_id),
        "gzip": lambda: Gzip(threads),
        "address_limit": lambda: address_limit,
        "version": lambda: VersionNegotiation(
            config.server.public_url,
            config.api.max_version,
            ONE_STORE if config.single_store else SEVERAL_STORES,
        ),
        "auth_token": lambda: UnlessPublic(authentication.step, ROUTES),
        "context": lambda: UnlessPublic(
            RequireContext(rules, config.auth.anonymous_read, authentication.challenge), ROUTES
        ),
        "rate_limit": lambda: rate_limit,
    }
    return [makers[name]() for name in config.pipeline]


def _check_order(config: Config) -> None:
    try:
        check_order(config.pipeline)
    except PipelineError as error:
        raise OptionError(("pipeline", error.position), str(error)) from None
