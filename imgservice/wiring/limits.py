"""From the configuration to what knows the limits of projects."""

from collections.abc import Mapping, Sequence

import attrs

from imgservice.concurrency.reactor import Reactor
from imgservice.config.sections import Config
from imgservice.config.sections.limits import LocalLimitsOptions, ProjectLimitsOptions
from imgservice.domain.quota import Resource
from imgservice.process.components import Component
from imgservice.process.probes import Probe
from imgservice.service.ports import LimitSource
from imgservice.service.quota import ConfiguredLimits, StorageLimit
from imgservice.troubles import Troubles


@attrs.frozen
class Limits:
    source: LimitSource | None
    components: Sequence[Component] = ()
    probes: Sequence[Probe] = ()


def make_limits(config: Config, reactor: Reactor, troubles: Troubles | None = None) -> Limits:
    """Make what the options ask for; `OptionError` for what cannot work."""
    limits = config.limits
    if limits.keystone.enabled:
        return _keystone(config, reactor, troubles)
    if limits.projects != LocalLimitsOptions():
        overrides = {project: _most(one) for project, one in limits.projects.overrides.items()}
        return Limits(ConfiguredLimits(_most(limits.projects.default), overrides))
    return Limits(StorageLimit(limits.user_storage) if limits.user_storage else None)


def _keystone(config: Config, reactor: Reactor, troubles: Troubles | None) -> Limits:
    from imgservice.auth.keystone.limit_documents import Place
    from imgservice.auth.keystone.limits import KeystoneLimits, LimitRules
    from imgservice.wiring.keystone import (
        KeystoneConnections,
        keystone_probe,
        make_keystone_client,
    )

    client, own = make_keystone_client(config, reactor, "limits.keystone", troubles)
    options, auth = config.limits.keystone, config.auth.keystone
    source = KeystoneLimits(
        reactor,
        client,
        own,
        Place(options.endpoint_id, options.service, options.region),
        LimitRules(
            timeout=auth.timeout,
            cache_time=options.cache_time,
            connections=auth.connections,
        ),
    )
    connections = KeystoneConnections(client, source.check)
    return Limits(source, [connections], [keystone_probe(client, auth.timeout)])


def _most(limits: ProjectLimitsOptions) -> Mapping[Resource, int]:
    found = {resource: getattr(limits, resource.value) for resource in Resource}
    return {resource: most for resource, most in found.items() if most is not None}
