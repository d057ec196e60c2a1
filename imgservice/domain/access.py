"""Who may do what: the default rules of the Images API, as functions of the asker and the image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, ImageNotFound
from imgservice.domain.image import Image, Visibility

Rule = Callable[[Context, Image], bool]


def is_visible(context: Context, image: Image) -> bool:
    """Tell whether the asker may know of the image at all."""
    if context.read_only:
        return image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
    return (
        context.is_admin
        or image.owner is None
        or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
        or image.owner == context.project
        or (image.visibility is Visibility.SHARED and image.membership is not None)
    )


def _reads(context: Context, image: Image) -> bool:
    return context.is_admin or ("reader" in context.roles and _is_offered(context, image))


def _downloads(context: Context, image: Image) -> bool:
    return context.is_admin or ("member" in context.roles and _is_offered(context, image))


def _is_offered(context: Context, image: Image) -> bool:
    """What is nobody's is for everybody, unless it is private."""
    is_hidden = image.owner is None and image.visibility is Visibility.PRIVATE
    return not is_hidden and is_visible(context, image)


def _changes(context: Context, image: Image) -> bool:
    if context.read_only:
        return False
    if context.is_admin:
        return True
    return "member" in context.roles and owns(context, image)


def _admin(context: Context, image: Image) -> bool:
    return context.is_admin and not context.read_only


def _administers(context: Context, image: Image) -> bool:
    return context.is_admin


def _reads_own(context: Context, image: Image) -> bool:
    return context.is_admin or ("reader" in context.roles and owns(context, image))


def _reads_members(context: Context, image: Image) -> bool:
    """What is nobody's is for all to see: of its members, though, each sees itself only."""
    if context.is_admin:
        return True
    return "reader" in context.roles and (owns(context, image) or _is_shared_with(context, image))


def _is_member(context: Context, image: Image) -> bool:
    if context.read_only:
        return False
    if context.is_admin:
        return True
    return "member" in context.roles and _is_shared_with(context, image)


def _is_shared_with(context: Context, image: Image) -> bool:
    if context.project is None or image.visibility is not Visibility.SHARED:
        return False
    return not owns(context, image) and is_visible(context, image)


def owns(context: Context, image: Image) -> bool:
    return image.owner is not None and image.owner == context.project


def _serves(context: Context, image: Image) -> bool:
    """Other services may do this, and the administrators of the cloud."""
    return not context.read_only and _is_service(context) and is_visible(context, image)


def _is_service(context: Context) -> bool:
    return "service" in context.roles or "admin" in context.roles


def _serves_or_changes(context: Context, image: Image) -> bool:
    if context.read_only:
        return False
    return _serves(context, image) or ("member" in context.roles and owns(context, image))


RULES: Mapping[str, Rule] = {
    "get_image": _reads,
    "download_image": _downloads,
    "add_image": _changes,
    "modify_image": _changes,
    "delete_image": _changes,
    "upload_image": _changes,
    "communitize_image": _changes,
    "publicize_image": _admin,
    "copy_image": _admin,
    "download_from_store": _downloads,
    "get_image_location": _reads_own,
    "list_cached_nodes": _administers,
    "add_image_location": _serves_or_changes,
    "fetch_image_location": _serves,
    "set_image_location": _changes,
    "delete_image_location": _admin,
    "deactivate": _changes,
    "reactivate": _changes,
    "add_member": _changes,
    "delete_member": _changes,
    "get_members": _reads_members,
    "get_member": _reads_members,
    "modify_member": _is_member,
}
"""Rules that are about an image."""


def _everybody(context: Context) -> bool:
    return True


def _administrator(context: Context) -> bool:
    return context.is_admin


def _administrator_who_writes(context: Context) -> bool:
    return context.is_admin and not context.read_only


GENERAL: Mapping[str, Callable[[Context], bool]] = {
    "default": _everybody,
    "context_is_admin": lambda context: "admin" in context.roles,
    "service_api": _is_service,
    "get_images": lambda context: context.is_admin or "reader" in context.roles,
    "stores_info_detail": lambda context: context.is_admin or _is_service(context),
    "tasks_api_access": _administrator,
    "get_task": _everybody,
    "get_tasks": _everybody,
    "add_task": lambda context: not context.read_only,
    "modify_task": lambda context: not context.read_only,
    "manage_image_cache": _administrator_who_writes,
    "cache_image": _administrator_who_writes,
    "cache_list": _administrator,
    "cache_delete": _administrator_who_writes,
    "cache_clean": _administrator_who_writes,
    "cache_prune": _administrator_who_writes,
}
"""Rules that are about no image."""

_ANY_SCOPE = frozenset({"default", "context_is_admin", "service_api"})
"""Rules that do not ask for a project."""


def is_in_scope(context: Context) -> bool:
    """Tell whether somebody asks for a project, and not for a domain or for the whole cloud."""
    return context.system_scope is None and context.domain is None


class Rules(Protocol):
    """Answers yes or no."""

    def allow(
        self, context: Context, action: str, image: Image | None, is_new: bool = False
    ) -> bool:
        """Tell whether the asker may do this; KeyError when there is no such rule.

        There is no image where the action is about none. One that `is_new` is only described.
        """

    def filters_lists(self) -> bool:
        """Tell whether SQL cannot know what somebody may see: each image must be asked about."""


class DefaultRules:
    """The rules of this module."""

    def __init__(self, enforce_scope: bool = True) -> None:
        self._enforce_scope = enforce_scope

    def allow(
        self, context: Context, action: str, image: Image | None, is_new: bool = False
    ) -> bool:
        if not is_in_scope(context) and self._enforce_scope and action not in _ANY_SCOPE:
            return False
        if image is None:
            return GENERAL[action](context)
        return RULES[action](context, image)

    def filters_lists(self) -> bool:
        return False


class Access:
    """Asks the rules, and raises what a refusal looks like to the asker."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def may(self, context: Context, action: str, image: Image) -> bool:
        return self._rules.allow(context, action, image)

    def require_visible(self, context: Context, image: Image) -> None:
        """Raise `ImageNotFound` when the asker may not know that the image exists."""
        if not self.may(context, "get_image", image):
            raise ImageNotFound(image.id)

    def require(self, context: Context, action: str, image: Image) -> None:
        """Raise when the asker may not do this: `Forbidden` if he may at least see the image."""
        if not self.may(context, action, image):
            self.require_visible(context, image)
            raise _refused(action)

    def require_new(self, context: Context, action: str, image: Image) -> None:
        """Raise `Forbidden` when the asker may not do this to an image that he describes."""
        if not self._rules.allow(context, action, image, is_new=True):
            raise _refused(action)

    def require_general(self, context: Context, action: str) -> None:
        """Raise `Forbidden` when the asker may not do this, which is about no image."""
        if not self._rules.allow(context, action, None):
            raise _refused(action)

    def visible(self, context: Context, images: Sequence[Image]) -> Sequence[Image]:
        """Return those of a list that the asker may see: all, where the list has decided it."""
        if not self._rules.filters_lists():
            return images
        return [image for image in images if self.may(context, "get_image", image)]


def _refused(action: str) -> Forbidden:
    return Forbidden(f"You are not authorized to complete {action} action.")
