"""Builds the protection of custom properties from the configuration."""

from collections.abc import Callable
from pathlib import Path

from imgservice.config.sections import Config
from imgservice.domain.access import Rules
from imgservice.domain.context import Context
from imgservice.domain.protections import UNPROTECTED, Permission, PropertyRules
from imgservice.policy.property_protections import (
    policies_permission,
    read_protections,
    role_warnings,
    roles_permission,
)
from imgservice.wiring.policy import log_warning
from imgservice.wiring.roles import known_roles
from imgservice.wiring.watched import watched_file


def make_property_rules(
    config: Config, rules: Rules, warn: Callable[[str], None] = log_warning
) -> Callable[[], PropertyRules]:
    """Return a function for the rules in force; `OptionError` when their file cannot be used.

    `warn` gets what may be a mistake in the file, now and whenever it is read again.
    """
    options = config.policy.property_protections
    if options.file is None:
        return lambda: UNPROTECTED

    def read(path: Path) -> PropertyRules:
        if options.format == "policies":
            return read_protections(path, policies_permission(_finder(rules)))
        return read_protections(path, roles_permission, role_warnings(known_roles(config)), warn)

    return watched_file(("policy", "property_protections", "file"), options.file, read)


def _finder(rules: Rules) -> Callable[[str], Permission]:
    """Return a function that finds a policy rule by its name; `ValueError` when there is none."""

    def find(name: str) -> Permission:
        try:
            rules.allow(Context(), name, None)
        except KeyError:
            raise ValueError(
                f"the policy has no rule {name!r}, or it is not about the caller alone"
            ) from None
        return lambda context: _allows(rules, context, name)

    return find


def _allows(rules: Rules, context: Context, name: str) -> bool:
    try:
        return rules.allow(context, name, None)
    except KeyError:  # the policy was read again, and no longer has the rule
        return False
