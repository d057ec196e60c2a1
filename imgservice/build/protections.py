"""From the configuration to the rules for custom properties."""

from collections.abc import Callable
from pathlib import Path

from imgservice.config import OptionError
from imgservice.domain.access import Rules
from imgservice.domain.context import Context
from imgservice.domain.protections import UNPROTECTED, Permission, PropertyRules
from imgservice.options import Config
from imgservice.protections import policies_permission, roles_permission, watched_protections
from imgservice.watched import Unreadable


def make_property_rules(config: Config, rules: Rules) -> Callable[[], PropertyRules]:
    """Return what tells the rules at present; `OptionError` when their file cannot be used."""
    options = config.policy.property_protections
    if options.file is None:
        return lambda: UNPROTECTED
    by_policy = options.format == "policies"
    read = policies_permission(_finder(rules)) if by_policy else roles_permission
    try:
        return watched_protections(Path(options.file), read)
    except Unreadable as error:
        raise OptionError(("policy", "property_protections", "file"), str(error)) from None


def _finder(rules: Rules) -> Callable[[str], Permission]:
    """Return what finds a rule of the policy by its name; `ValueError` when there is none."""

    def find(name: str) -> Permission:
        try:
            rules.allow(Context(), name, None)
        except KeyError:
            raise ValueError(f"the policy has no rule {name!r}, or it is about images") from None
        return lambda context: _allows(rules, context, name)

    return find


def _allows(rules: Rules, context: Context, name: str) -> bool:
    try:
        return rules.allow(context, name, None)
    except KeyError:  # the policy was read again, and has lost the rule
        return False
