"""Asks the rules whether a caller may do something, and raises what the caller is told."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, TypeVar

from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotFound

_OPEN = frozenset({"public", "community"})
"""Visibilities of what every caller may see."""


class Owned(Protocol):
    """What the default rules look at."""

    @property
    def owner(self) -> str | None:
        """The project that owns it, if any."""

    @property
    def visibility(self) -> str | None:
        """`public`, `community`, `shared` or `private`; None where there is no such choice."""

    @property
    def membership(self) -> str | None:
        """How the caller's project answered when this was shared with it; None if it was not."""


class Target(Owned, Protocol):
    """Something that a rule can be asked about: an image, a namespace, a task."""

    show_rule: ClassVar[str]
    """The rule that tells whether a caller may know of it."""

    @property
    def fields(self) -> Mapping[str, object]:
        """What `%(NAME)s` in a check stands for, by name."""

    def not_found(self) -> NotFound:
        """Return the error for a caller who may not know of it."""


T = TypeVar("T", bound=Target)


def is_visible(context: Context, target: Owned) -> bool:
    """Tell whether the caller may know of the target at all."""
    if target.visibility in _OPEN:
        return True
    if context.read_only:
        return False
    return (
        context.is_admin
        or target.owner is None
        or target.owner == context.project
        or (target.membership is not None and target.visibility == "shared")
    )


def owns(context: Context, target: Owned) -> bool:
    """Tell whether the caller's project owns the target."""
    return target.owner is not None and target.owner == context.project


def is_in_scope(context: Context) -> bool:
    """Tell whether the token is for a project, and not for a domain or the whole cloud."""
    return context.system_scope is None and context.domain is None


class Rules(Protocol):
    """Answers yes or no."""

    def allow(
        self, context: Context, rule: str, target: Target | None, is_new: bool = False
    ) -> bool:
        """Tell whether the rule allows this; `KeyError` when there is no such rule.

        A target that `is_new` is only described so far. Without a target the rule is asked about
        the caller alone; `KeyError` when it is about a target.
        """

    def filters_lists(self, show_rule: str, list_rule: str) -> bool:
        """Tell whether SQL cannot know what a caller may see: each target must be asked about."""


class Access:
    """Asks the rules, and raises the error that a refused caller gets."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def may(self, context: Context, rule: str, target: Target) -> bool:
        return self._rules.allow(context, rule, target)

    def require_visible(self, context: Context, target: Target) -> None:
        """Raise the target's `NotFound` when the caller may not know that it exists."""
        if not self._rules.allow(context, target.show_rule, target):
            raise target.not_found()

    def require(self, context: Context, rule: str, target: Target) -> None:
        """Raise when the rule refuses: `Forbidden` if the caller may at least see the target."""
        if not self._rules.allow(context, rule, target):
            self.require_visible(context, target)
            raise _refused(rule)

    def require_new(self, context: Context, rule: str, target: Target) -> None:
        """Raise `Forbidden` when the rule refuses this to a target that does not exist yet."""
        if not self._rules.allow(context, rule, target, is_new=True):
            raise _refused(rule)

    def require_general(self, context: Context, rule: str) -> None:
        """Raise `Forbidden` when the rule, which is about no target, refuses this."""
        if not self._rules.allow(context, rule, None):
            raise _refused(rule)

    def visible(self, context: Context, list_rule: str, targets: Sequence[T]) -> Sequence[T]:
        """Return the targets of a list that the caller may see: all, where SQL has decided it."""
        if not targets or not self._rules.filters_lists(targets[0].show_rule, list_rule):
            return targets
        return [one for one in targets if self._rules.allow(context, one.show_rule, one)]


def _refused(rule: str) -> Forbidden:
    return Forbidden(f"You are not authorized to complete {rule} action.")
