"""What can go wrong, as facts; which HTTP status a fact becomes is decided in `http.errors`."""


class ImageServiceError(Exception):
    """The root of every error that a client may be told about."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(ImageServiceError):
    """The request contradicts the API: a wrong value, a broken document."""


class NotAuthenticated(ImageServiceError):
    """Nobody, or nobody we trust, is asking; `challenge` tells how to say who one is."""

    def __init__(self, message: str, challenge: str | None = None) -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(ImageServiceError):
    """He who asks may see the thing, but not do this to it."""


class NotFound(ImageServiceError):
    """There is no such thing, or none that he who asks may know of."""


class ImageNotFound(NotFound):
    def __init__(self, image_id: str) -> None:
        super().__init__(f"No image found with ID {image_id}")


class Conflict(ImageServiceError):
    """The thing is in a state that does not allow this."""


class DuplicateImage(Conflict):
    """The id is taken, perhaps by an image deleted long ago: ids are never used twice."""

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
    """The thing is not, or no more, what he who asks takes it for."""


class ImageGone(ImageServiceError):
    """The image was deleted while its data came in."""

    def __init__(self, image_id: str) -> None:
        super().__init__(f"Image {image_id} could not be found after upload; it was deleted.")


class TooLarge(ImageServiceError):
    """More bytes or items than a limit allows, or than there is room for."""


class UnsupportedContent(ImageServiceError):
    """The body is of a type, or the data of a format, that is not accepted here."""


class UnsupportedPatch(UnsupportedContent):
    """A change is not written in one of the patch formats; `accepted` are their media types."""

    def __init__(self, accepted: str) -> None:
        super().__init__(f"Image PATCH expects Content-Type one of: {accepted}")
        self.accepted = accepted


class RangeNotSatisfiable(ImageServiceError):
    """No byte of the asked range exists; `size` is what there is."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class ImageTooLarge(TooLarge):
    """There is more data than an image may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The incoming image is too large: the limit is {limit} bytes.")


class HeaderTooLong(ImageServiceError):
    """A header field is longer than its limit."""


class TooManyRequests(ImageServiceError):
    """Somebody asks too often; after `wait` seconds he may ask again."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class Unavailable(ImageServiceError):
    """Something that we depend on does not work at present."""


class BodyAborted(ImageServiceError):
    """The client went away, or broke the framing, before its body was complete."""


class BodyTooSlow(BodyAborted):
    """The client sent so slowly that it was not waited for any longer."""
