"""Decides by the operator's policy files."""

from collections.abc import Callable, Mapping

from imgservice.concurrency.file_watch import Watched
from imgservice.domain.access import Target, is_in_scope, is_visible
from imgservice.domain.context import Context
from imgservice.domain.roles import KnownRoles
from imgservice.policy import checks
from imgservice.policy.defaults import DefaultRules
from imgservice.policy.effective import Policy, read_policy
from imgservice.policy.files import Sources
from imgservice.policy.subjects import TargetNames, credentials, described, stand_in
from imgservice.policy.table import RULES, Rule


class PolicyRules:
    """The rules of the files, and the default rules where the files change nothing.

    Whatever a file says, callers see nothing that is hidden from them, those without an identity
    change nothing, and each rule has its limit in the table.
    """

    def __init__(
        self,
        sources: Sources,
        warn: Callable[[str], None],
        new_defaults: bool = True,
        enforce_scope: bool = True,
        roles: Callable[[], KnownRoles] | None = None,
    ) -> None:
        """Read the files; `warn` gets what may be a mistake, such as unknown `roles`, each time."""
        self._roles = roles
        self._warn = warn
        self._new_defaults = new_defaults
        self._enforce_scope = enforce_scope
        self._defaults = DefaultRules(enforce_scope)
        self._policy = Watched(sources.watched, lambda: self._read(sources))

    def _read(self, sources: Sources) -> Policy:
        policy = read_policy(sources, self._new_defaults, self._roles and self._roles())
        for warning in policy.warnings:
            self._warn(warning)
        return policy

    def allow(
        self, context: Context, rule: str, target: Target | None, is_new: bool = False
    ) -> bool:
        policy = self._policy()
        if rule in RULES and rule not in policy.overridden:
            return self._defaults.allow(context, rule, target, is_new)
        decide = policy.decide[rule]
        if not self._can_be_allowed(context, RULES.get(rule), target, is_new):
            return False
        known = credentials(context)
        if target is None:  # there is no owner that None could be mistaken for
            known.setdefault("project_id", context.project)
        return decide(_names(context, rule, target, is_new), known)

    def filters_lists(self, show_rule: str, list_rule: str) -> bool:
        policy = self._policy()
        if policy.decide[show_rule] is checks.yes:
            return False
        return not policy.overridden.isdisjoint((show_rule, list_rule))

    def _can_be_allowed(
        self, context: Context, rule: Rule | None, target: Target | None, is_new: bool
    ) -> bool:
        """Tell whether a file can allow it; rules that the operator made up have no limit."""
        if rule is not None and not self._is_possible(context, rule):
            return False
        if target is None or context.is_admin:
            return True
        if not is_new and not is_visible(context, target):
            return False
        return rule is None or self._is_within_limit(context, rule, target)

    def _is_possible(self, context: Context, rule: Rule) -> bool:
        """Tell whether the caller can do such a thing to any target."""
        in_scope = not (self._enforce_scope and rule.scoped) or is_in_scope(context)
        return in_scope and not (context.read_only and rule.writes)

    def _is_within_limit(self, context: Context, rule: Rule, target: Target) -> bool:
        former = None if self._new_defaults else rule.former_limit
        return (former or rule.limit)(context, target)


def _names(
    context: Context, rule: str, target: Target | None, is_new: bool
) -> Mapping[str, object]:
    if target is None:
        return stand_in(context, rule)
    return described(target) if is_new else TargetNames(context, target)
