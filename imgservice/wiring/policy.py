"""Builds the policy from the configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.logger import Logger

from imgservice.concurrency.file_watch import Unreadable
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.domain.access import Rules
from imgservice.policy.defaults import DefaultRules
from imgservice.policy.files import Sources
from imgservice.wiring.roles import known_roles

if TYPE_CHECKING:
    from imgservice.policy.effective import Policy


_log = Logger()


def log_warning(warning: str) -> None:
    _log.warn("{warning}", warning=warning)


def make_rules(config: Config, warn: Callable[[str], None] = log_warning) -> Rules:
    """Return the rules; `OptionError` when a policy file cannot be used.

    `warn` gets what may be a mistake in the files, now and whenever they are read again.
    """
    options, sources = config.policy, policy_sources(config)
    if not sources and options.enforce_new_defaults:
        return DefaultRules(options.enforce_scope)
    # It imports oslo.policy, which takes a third of a second and 7 MiB.
    from imgservice.policy.rules import PolicyRules

    try:
        return PolicyRules(
            sources,
            warn,
            options.enforce_new_defaults,
            options.enforce_scope,
            lambda: known_roles(config),
        )
    except Unreadable as error:
        raise OptionError(("policy",), str(error)) from None


def read_policies(config: Config) -> "Policy":
    """Return the rules in force, to show them; `OptionError` as above."""
    from imgservice.policy.effective import read_policy

    try:
        options = config.policy
        return read_policy(
            policy_sources(config), options.enforce_new_defaults, known_roles(config)
        )
    except Unreadable as error:
        raise OptionError(("policy",), str(error)) from None


def policy_sources(config: Config) -> Sources:
    options = config.policy
    return Sources(
        Path(options.file) if options.file else None, [Path(one) for one in options.dirs]
    )
