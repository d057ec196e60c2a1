"""From the configuration to the rules of who may do what."""

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


def warn(doubt: str) -> None:
    _log.warn("{doubt}", doubt=doubt)


def make_rules(config: Config, tell: Callable[[str], None] = warn) -> Rules:
    """Return the rules; `OptionError` when a file of theirs cannot be used.

    `tell` is told what may be a mistake in the files, now and whenever they are read again.
    """
    options, sources = config.policy, policy_sources(config)
    if not has_policies(config):
        return DefaultRules(options.enforce_scope)
    # The library behind it takes a third of a second and some MiB: only for those who need it.
    from imgservice.policy.rules import PolicyRules

    try:
        return PolicyRules(
            sources,
            tell,
            options.enforce_new_defaults,
            options.enforce_scope,
            lambda: known_roles(config),
        )
    except Unreadable as error:
        raise OptionError(("policy",), str(error)) from None


def read_policies(config: Config) -> "Policy":
    """Return what holds at present, for people to look at; `OptionError` as above."""
    from imgservice.policy.effective import read_policy

    try:
        options = config.policy
        return read_policy(
            policy_sources(config), options.enforce_new_defaults, known_roles(config)
        )
    except Unreadable as error:
        raise OptionError(("policy",), str(error)) from None


def has_policies(config: Config) -> bool:
    """Tell whether anything but the defaults holds."""
    return bool(policy_sources(config)) or not config.policy.enforce_new_defaults


def policy_sources(config: Config) -> Sources:
    options = config.policy
    return Sources(
        Path(options.file) if options.file else None, [Path(one) for one in options.dirs]
    )
