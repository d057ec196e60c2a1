"""From the configuration to the step that authenticates callers."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs

from imgservice.api.middleware import basic, tokens
from imgservice.api.middleware.auth_token import FixedIdentity, TrustedHeaders
from imgservice.api.middleware.basic import Basic
from imgservice.api.middleware.browsers import (
    Guard,
    Guarded,
    KnownHosts,
    SameOrigin,
    host_of,
    origin_of,
)
from imgservice.api.middleware.client_certificate import ClientCertificate
from imgservice.api.middleware.tokens import StaticTokens
from imgservice.auth.certificates import read_subjects
from imgservice.auth.htpasswd import Passwords, read_htpasswd
from imgservice.auth.tokens import Tokens, read_owners
from imgservice.auth.users_file import context_of, read_users
from imgservice.concurrency.file_watch import Watched
from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.domain.context import Context
from imgservice.domain.roles import with_implied
from imgservice.http.networks import networks
from imgservice.http.pipeline import Step
from imgservice.process.components import Component, OpenResource
from imgservice.process.probes import Probe
from imgservice.troubles import Troubles
from imgservice.wiring.watched import watched_file

T = TypeVar("T")
PASSWORD_THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))
"""At most half of the machine: hashing for those who guess passwords takes no more."""


@attrs.frozen
class Authentication:
    step: Step
    challenge: str | None = None
    """The value of the header WWW-Authenticate."""
    components: Sequence[Component] = ()
    probes: Sequence[Probe] = ()


def make_authentication(
    config: Config, reactor: Reactor, troubles: Troubles | None = None
) -> Authentication:
    """Make what `auth.mode` needs; `OptionError` for a file that cannot be used."""
    makers: Mapping[str, Callable[[], Authentication]] = {
        "none": lambda: _none(config),
        "basic": lambda: _basic(config, reactor),
        "tokens": lambda: _tokens(config),
        "keystone": lambda: _keystone(config, reactor, troubles),
        "client_certificate": lambda: _client_certificate(config),
        "trusted_headers": lambda: _trusted_headers(config),
    }
    return makers[config.auth.mode]()


def _none(config: Config) -> Authentication:
    local = config.auth.none
    roles = with_implied(local.roles)
    hosts = KnownHosts((*local.hosts, *_public_host(config)), "auth.none.hosts")
    step = FixedIdentity(Context(local.user, local.project, roles))
    return Authentication(Guarded((hosts, _own_pages(config)), step))


def _trusted_headers(config: Config) -> Authentication:
    trusted = config.auth.trusted_headers
    guards: list[Guard] = [_own_pages(config)]
    if trusted.hosts:
        guards.append(KnownHosts(trusted.hosts, "auth.trusted_headers.hosts"))
    return Authentication(Guarded(guards, TrustedHeaders(networks(trusted.from_))))


def _basic(config: Config, reactor: Reactor) -> Authentication:
    options = config.auth.basic
    htpasswd = _watched(("auth", "basic", "file"), options.file, read_htpasswd)
    users: Callable[[str], Context | None]
    if options.users is None:
        users = partial(_own_project, roles=options.roles)
    else:
        file = _watched(("auth", "basic", "users"), options.users, read_users)
        users = lambda user: file().get(user)  # noqa: E731  the file may have changed
    threads = Threads(reactor, PASSWORD_THREADS, "password")
    step = Basic(Passwords(htpasswd, threads), users)
    components = [OpenResource("password threads", threads.stop)]
    return Authentication(Guarded((_own_pages(config),), step), basic.CHALLENGE, components)


def _own_project(user: str, roles: Sequence[str]) -> Context:
    return context_of(user, user, roles)


def _tokens(config: Config) -> Authentication:
    owners = _watched(("auth", "tokens", "file"), config.auth.tokens.file, read_owners)
    return Authentication(StaticTokens(Tokens(owners)), tokens.CHALLENGE)


def _keystone(config: Config, reactor: Reactor, troubles: Troubles | None) -> Authentication:
    from imgservice.wiring.keystone import (
        KeystoneConnections,
        keystone_challenge,
        keystone_probes,
        make_keystone_step,
        make_keystone_tokens,
    )

    tokens = make_keystone_tokens(config, reactor, troubles)
    challenge = keystone_challenge(config.auth.keystone)
    step = make_keystone_step(config, tokens)
    components = [KeystoneConnections(tokens.client, tokens.check)]
    return Authentication(step, challenge, components, keystone_probes(tokens))


def _client_certificate(config: Config) -> Authentication:
    if config.server.tls is None or config.server.tls.client_ca is None:
        raise OptionError(("auth", "mode"), "client_certificate needs server.tls.client_ca")
    place = ("auth", "client_certificate", "file")
    users = _watched(place, config.auth.client_certificate.file, read_subjects)
    return Authentication(Guarded((_own_pages(config),), ClientCertificate(users)))


def _watched(option: Sequence[str], file: str | None, read: Callable[[Path], T]) -> Watched[T]:
    if file is None:
        raise OptionError(option, f"is needed by auth.mode {option[1]}")
    return watched_file(option, file, read)


def _own_pages(config: Config) -> SameOrigin:
    return SameOrigin(config.cors.allowed_origins, config.server.public_url)


def _public_host(config: Config) -> Sequence[str]:
    url = config.server.public_url
    return [host_of(origin_of(url).partition("://")[2])] if url else []
