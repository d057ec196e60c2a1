"""Who may do what, where the operator's files have a say."""

from collections.abc import Callable, Mapping
from typing import Any

from imgservice.concurrency.file_watch import Watched
from imgservice.domain import access
from imgservice.domain.access import DefaultRules, is_in_scope, is_visible, owns
from imgservice.domain.context import Context
from imgservice.domain.image import Image
from imgservice.domain.roles import KnownRoles
from imgservice.policy import checks
from imgservice.policy.effective import Policy, read_policy
from imgservice.policy.files import Sources
from imgservice.policy.subjects import ImageTarget, caller, credentials, described
from imgservice.policy.table import RULES

_BY_DEFAULT = access.RULES.keys() | access.GENERAL.keys()
"""The rules of which no more is asked than what the defaults know."""
_FOR_OWNERS = frozenset(
    {"modify_image", "delete_image", "upload_image", "deactivate", "reactivate",
     "set_image_location", "delete_image_location", "add_image_location"}
)  # fmt: skip
"""What only the owner and administrators do to an image, whatever the rule says."""
_FOR_SHARERS = frozenset({"add_member", "delete_member"})
"""What only they do to its members, under the rules of former releases."""


class PolicyRules:
    """The rules of the files, and for all that these do not touch the defaults.

    Some things no rule allows: that somebody sees what is hidden from him, creates what belongs to
    others, or changes what is not his, or anything when he may only look.
    """

    def __init__(
        self,
        sources: Sources,
        tell: Callable[[str], None],
        new_defaults: bool = True,
        enforce_scope: bool = True,
        roles: Callable[[], KnownRoles] | None = None,
    ) -> None:
        """`tell` is told what may be a mistake, at every reading, such as none of the `roles`."""
        self._roles = roles
        self._tell = tell
        self._new_defaults = new_defaults
        self._enforce_scope = enforce_scope
        self._defaults = DefaultRules(enforce_scope)
        self._policy = Watched(sources.watched, lambda: self._read(sources))

    def _read(self, sources: Sources) -> Policy:
        policy = read_policy(sources, self._new_defaults, self._roles and self._roles())
        for doubt in policy.doubts:
            self._tell(doubt)
        return policy

    def allow(
        self, context: Context, action: str, image: Image | None, is_new: bool = False
    ) -> bool:
        policy = self._policy()
        if action in _BY_DEFAULT and action not in policy.overridden:
            return self._defaults.allow(context, action, image, is_new)
        decide = policy.decide[action]
        if not self._is_possible(context, action):
            return False
        if image is not None and not self._may_be(context, action, image, is_new):
            return False
        known = credentials(context)
        if image is None:  # nothing is there that could be mistaken for his
            known.setdefault("project_id", context.project)
        return decide(_target(context, action, image, is_new), known)

    def filters_lists(self) -> bool:
        policy = self._policy()
        if policy.decide["get_image"] is checks.yes:
            return False
        return not policy.overridden.isdisjoint(("get_image", "get_images"))

    def _is_possible(self, context: Context, action: str) -> bool:
        """Tell whether the asker may do any such thing; the operator's own names are his affair."""
        rule = RULES.get(action)
        if rule is None:
            return True
        in_scope = not (self._enforce_scope and rule.scoped) or is_in_scope(context)
        return in_scope and not (context.read_only and rule.writes)

    def _may_be(self, context: Context, action: str, image: Image, is_new: bool) -> bool:
        """Tell what is so whatever the rule says."""
        if context.is_admin:
            return True
        if is_new:
            return action != "add_image" or image.owner == context.project
        if not is_visible(context, image):
            return False
        if action == "add_image_location" and "service" in context.roles:
            return True
        if action in _FOR_OWNERS or (action in _FOR_SHARERS and not self._new_defaults):
            return owns(context, image)
        if action == "modify_member" and not self._new_defaults:
            return image.owner != context.project
        return True


def _target(context: Context, action: str, image: Image | None, is_new: bool) -> Mapping[str, Any]:
    if image is not None:
        return described(image) if is_new else ImageTarget(context, image)
    if action == "context_is_admin":
        return caller(context)
    return {"project_id": context.project} if action == "get_images" else {}
