"""Who may do what: the default rules of the Images API, as functions of the asker and the image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, ImageNotFound
from imgservice.domain.image import Image, Visibility

Rule = Callable[[Context, Image], bool]


def is_visible(context: Context, image: Image) -> bool:
    """Tell whether the asker may know of the image at all."""
    return (
        context.is_admin
        or image.owner is None
        or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
        or image.owner == context.project
        or (image.visibility is Visibility.SHARED and image.membership is not None)
    )


def _reads(context: Context, image: Image) -> bool:
    return context.is_admin or ("reader" in context.roles and is_visible(context, image))


def _downloads(context: Context, image: Image) -> bool:
    return context.is_admin or ("member" in context.roles and is_visible(context, image))


def _changes(context: Context, image: Image) -> bool:
    if context.read_only:
        return False
    if context.is_admin:
        return True
    return "member" in context.roles and _owns(context, image)


def _admin(context: Context, image: Image) -> bool:
    return context.is_admin and not context.read_only


def _reads_members(context: Context, image: Image) -> bool:
    """What is nobody's is for all to see: of its members, though, each sees itself only."""
    if context.is_admin:
        return True
    concerned = image.owner in (None, context.project) or image.membership is not None
    return "reader" in context.roles and concerned


def _is_member(context: Context, image: Image) -> bool:
    if context.read_only:
        return False
    if context.is_admin:
        return True
    joined = image.membership is not None and not _owns(context, image)
    return "member" in context.roles and joined


def _owns(context: Context, image: Image) -> bool:
    return image.owner is not None and image.owner == context.project


def _serves(context: Context, image: Image) -> bool:
    """Other services may do this, and administrators."""
    if context.read_only:
        return False
    return context.is_admin or ("service" in context.roles and is_visible(context, image))


def _serves_or_changes(context: Context, image: Image) -> bool:
    return _serves(context, image) or _changes(context, image)


RULES: Mapping[str, Rule] = {
    "get_image": _reads,
    "download_image": _downloads,
    "add_image": _changes,
    "modify_image": _changes,
    "delete_image": _changes,
    "upload_image": _changes,
    "communitize_image": _changes,
    "publicize_image": _admin,
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


GENERAL: Mapping[str, Callable[[Context], bool]] = {
    "context_is_admin": lambda context: "admin" in context.roles,
    "get_images": lambda context: context.is_admin or "reader" in context.roles,
    "stores_info_detail": lambda context: context.is_admin or "service" in context.roles,
}
"""Rules that are about no image."""


class Rules(Protocol):
    """Answers yes or no."""

    def allow(
        self, context: Context, action: str, image: Image | None, member: str | None = None
    ) -> bool:
        """Tell whether the asker may do this; `member` is the project whose membership it is about.

        There is no image where the action is about none.
        """

    def is_default(self, action: str) -> bool:
        """Tell whether the rule is that of this module, which lists can decide in SQL."""


class DefaultRules:
    """The rules of this module."""

    def allow(
        self, context: Context, action: str, image: Image | None, member: str | None = None
    ) -> bool:
        if image is None:
            return GENERAL[action](context)
        return RULES[action](context, image)

    def is_default(self, action: str) -> bool:
        return True


class Access:
    """Asks the rules, and raises what a refusal looks like to the asker."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def may(self, context: Context, action: str, image: Image, member: str | None = None) -> bool:
        return self._rules.allow(context, action, image, member)

    def require_visible(self, context: Context, image: Image) -> None:
        """Raise `ImageNotFound` when the asker may not know that the image exists."""
        if not self.may(context, "get_image", image):
            raise ImageNotFound(image.id)

    def require(
        self, context: Context, action: str, image: Image, member: str | None = None
    ) -> None:
        """Raise when the asker may not do this: `Forbidden` if he may at least see the image."""
        if not self.may(context, action, image, member):
            self.require_visible(context, image)
            raise _refused(action)

    def require_new(self, context: Context, action: str, image: Image) -> None:
        """Raise `Forbidden` when the asker may not do this to an image that he describes."""
        if not self.may(context, action, image):
            raise _refused(action)

    def require_general(self, context: Context, action: str) -> None:
        """Raise `Forbidden` when the asker may not do this, which is about no image."""
        if not self._rules.allow(context, action, None):
            raise _refused(action)

    def visible(self, context: Context, images: Sequence[Image]) -> Sequence[Image]:
        """Return those of a list that the asker may see: all, where the list has decided it."""
        if self._rules.is_default("get_image"):
            return images
        return [image for image in images if self.may(context, "get_image", image)]


def _refused(action: str) -> Forbidden:
    return Forbidden(f"You are not authorized to complete {action} action.")
