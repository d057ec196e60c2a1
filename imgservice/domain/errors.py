"""Errors, without HTTP: `http.errors` maps them to status codes."""


class ImageServiceError(Exception):
    """The base of all errors that clients may see."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(ImageServiceError):
    """The request violates the API, for example by a wrong value or a malformed document."""


class NotAuthenticated(ImageServiceError):
    """The caller is not authenticated; `challenge` says how to authenticate."""

    def __init__(self, message: str, challenge: str | None = None) -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(ImageServiceError):
    """The caller may see the object, but not do this to it."""


class NotFound(ImageServiceError):
    """There is no such object, or the caller may not know that there is."""


class ImageNotFound(NotFound):
    def __init__(self, image_id: str) -> None:
        super().__init__(f"No image found with ID {image_id}")


class Conflict(ImageServiceError):
    """The state of the object does not allow this."""


class DuplicateImage(Conflict):
    """The id is taken, perhaps by a deleted image: ids are never used twice."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"Image ID {image_id} already exists!")


class MemberNotFound(NotFound):
    def __init__(self, image_id: str, project: str) -> None:
        super().__init__(f"{project} not found in the member list of the image {image_id}.")


class DuplicateMember(Conflict):
    def __init__(self, image_id: str, project: str) -> None:
        super().__init__(f"Member {project} is duplicated for image {image_id}")


class StatusConflict(Conflict):
    def __init__(self, image_id: str, status: str, wanted: str) -> None:
        super().__init__(f"Image {image_id} is {status}; this needs it {wanted}.")


class PreconditionFailed(ImageServiceError):
    """The object is not, or no longer, what the caller expects."""


class ImageGone(ImageServiceError):
    """The image was deleted while its data was uploaded."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"Image {image_id} could not be found after upload; it was deleted.")


class TooLarge(ImageServiceError):
    """More bytes or items than a limit allows, or than there is room for."""


class UnsupportedContent(ImageServiceError):
    """The type of the body, or the format of the data, is not accepted here."""


class UnsupportedPatch(UnsupportedContent):
    """The change has no known patch format; `accepted` are the media types of those."""

    def __init__(self, accepted: str) -> None:
        super().__init__(f"Image PATCH expects Content-Type one of: {accepted}")
        self.accepted = accepted


class RangeNotSatisfiable(ImageServiceError):
    """The requested range is beyond the end of the data, which has `size` bytes."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class ImageTooLarge(TooLarge):
    """The data is larger than an image may be."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The incoming image is too large: the limit is {limit} bytes.")


class HeaderTooLong(ImageServiceError):
    """A header field is longer than its limit."""


class TooManyRequests(ImageServiceError):
    """The caller sends too many requests, and may send one again after `wait` seconds."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class Unavailable(ImageServiceError):
    """A store, the database or another service that we depend on does not work at present."""


class NotConfigured(Unavailable):
    """Something is needed that this node does not have, but others may."""


class BodyAborted(ImageServiceError):
    """The client disconnected, or violated HTTP, before its body was complete."""


class BodyTooSlow(BodyAborted):
    """The client sent its body too slowly."""
