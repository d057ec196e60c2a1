"""Who may do what: the default rules of the Images API, as functions of the asker and the image."""

from collections.abc import Callable, Mapping

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


def require_operator(context: Context, action: str) -> None:
    """Raise `Forbidden` unless an administrator or another service asks."""
    if not (context.is_admin or "service" in context.roles):
        raise Forbidden(f"You are not authorized to complete {action} action.")


def may(context: Context, action: str, image: Image) -> bool:
    return RULES[action](context, image)


def require_visible(context: Context, image: Image) -> None:
    """Raise `ImageNotFound` when the asker may not know that the image exists."""
    if not may(context, "get_image", image):
        raise ImageNotFound(image.id)


def require(context: Context, action: str, image: Image) -> None:
    """Raise when the asker may not do this: `Forbidden` if he may at least see the image."""
    if not may(context, action, image):
        require_visible(context, image)
        require_new(context, action, image)


def require_new(context: Context, action: str, image: Image) -> None:
    """Raise `Forbidden` when the asker may not do this to an image that he himself describes."""
    if not may(context, action, image):
        raise Forbidden(f"You are not authorized to complete {action} action.")
