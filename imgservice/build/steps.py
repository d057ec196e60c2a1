"""From the configuration to the steps of the pipeline."""

from collections.abc import Callable, Mapping, Sequence

from imgservice.domain.access import Rules
from imgservice.domain.context import Context
from imgservice.options import Config
from imgservice.web.addresses import networks
from imgservice.web.pipeline import Step
from imgservice.web.steps.auth_token import EverybodyIs, TrustedHeaders
from imgservice.web.steps.context import RequireContext
from imgservice.web.steps.cors import Cors
from imgservice.web.steps.proxy_headers import ProxyHeaders
from imgservice.web.steps.request_id import RequestId
from imgservice.web.steps.version import VersionNegotiation


def make_steps(config: Config, rules: Rules) -> Sequence[Step]:
    """Make the steps that the configuration lists, in its order."""
    makers: Mapping[str, Callable[[], Step]] = {
        "proxy_headers": lambda: ProxyHeaders(networks(config.server.trusted_proxies)),
        "cors": lambda: Cors(
            config.cors.allowed_origins, config.cors.allow_credentials, config.cors.max_age
        ),
        "request_id": lambda: RequestId(config.api.max_request_id),
        "version": lambda: VersionNegotiation(config.server.public_url, config.api.max_version),
        "auth_token": lambda: _authentication(config),
        "context": lambda: RequireContext(rules, config.auth.anonymous_read),
    }
    return [makers[name]() for name in config.pipeline]


def _authentication(config: Config) -> Step:
    if config.auth.mode == "trusted_headers":
        return TrustedHeaders(networks(config.auth.trusted_headers.from_))
    everybody = config.auth.none
    roles = frozenset(role.lower() for role in everybody.roles)
    return EverybodyIs(Context(everybody.user, everybody.project, roles))
