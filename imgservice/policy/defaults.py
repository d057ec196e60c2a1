"""Decides by the default rules, without reading the policy language."""

import attrs

from imgservice.domain.access import Owned
from imgservice.domain.context import Context
from imgservice.policy.table import RULES


@attrs.frozen
class _Nothing:
    """Stands for the target of rules that look at none."""

    owner: None = None
    visibility: None = None
    membership: None = None


_NOTHING = _Nothing()


class DefaultRules:
    """The rules of the table."""

    def __init__(self, enforce_scope: bool = True) -> None:
        self._rules = (
            RULES
            if enforce_scope
            else {name: attrs.evolve(rule, scoped=False) for name, rule in RULES.items()}
        )

    def allow(
        self, context: Context, rule: str, target: Owned | None, is_new: bool = False
    ) -> bool:
        found = self._rules[rule]
        if context.read_only and found.writes:
            return False
        # As `is_in_scope`, without a call.
        if found.scoped and (context.system_scope is not None or context.domain is not None):
            return False
        if target is None:
            if found.has_target:
                raise KeyError(rule)
            target = _NOTHING
        return found.condition.holds(context, target)

    def filters_lists(self, show_rule: str, list_rule: str) -> bool:
        return False
