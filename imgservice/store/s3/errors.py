"""What the server answers when it does not do what it was asked, as errors of the store."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from imgservice.net.errors import FetchFailed
from imgservice.store.interface import DataNotFound, StoreFull, StoreUnavailable
from imgservice.store.names import NO_OBJECT
from imgservice.store.s3.credentials import NoKeys

_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")
_FULL = ("QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity")
_HINTS: Mapping[str, str] = {
    "InvalidAccessKeyId": "the server does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "RequestTimeTooSkewed": "the clocks of this host and the server differ",
    "AccessDenied": "the keys do not allow it",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is wrong",
    "NoSuchBucket": "there is no such bucket",
    "AuthorizationHeaderMalformed": "the region is wrong",
    "PermanentRedirect": "the bucket is at another host or in another region",
    "SlowDown": "the server asks for fewer requests",
}


class Answered(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, code: str = "", region: str = "") -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code if _CODE.fullmatch(code) else ""
        self._region = region if _CODE.fullmatch(region.replace("-", "")) else ""

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed in a moment."""
        return self.status in (408, 429, 500, 502, 503, 504) or self.code in (
            "OperationAborted",
            "ConditionalRequestConflict",
            "RequestTimeout",
        )

    @property
    def is_about_keys(self) -> bool:
        """Whether new keys may help; answers to HEAD do not tell."""
        return self.code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired") or (
            not self.code and self.status in (400, 403)
        )

    @property
    def reason(self) -> str:
        """Return the reason for operators."""
        hint = _HINTS.get(self.code, "")
        if not self.code and self.status == 403:
            hint = "wrong keys, or keys that do not allow it"
        if self._region and self.status in (301, 307, 400):
            hint = f"the region is {self._region}"
        answer = f"status {self.status} {self.code}".rstrip()
        return f"{answer} ({hint})" if hint else answer


class ErrorTranslation:
    """Raises the store's errors, and reports those that an operator must fix.

    Only the codes of the server are repeated: its texts have contained keys.
    """

    def __init__(self, name: str, report: Callable[[str], object]) -> None:
        self._name = name
        self._report = report

    @contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except (Answered, FetchFailed, NoKeys) as error:
            raise self.translated(error) from error

    def told(self, error: BaseException | None) -> str:
        """Report why something could not be removed, and return it for clients."""
        if isinstance(error, Answered | FetchFailed | NoKeys):
            return self.translated(error).message
        self._report(type(error).__name__)
        return f"{self._name} fails at present"

    def translated(
        self, error: Answered | FetchFailed | NoKeys
    ) -> StoreUnavailable | StoreFull | DataNotFound:
        if isinstance(error, Answered):
            if error.status == 404 and error.code != "NoSuchBucket":
                return DataNotFound(f"{self._name} {NO_OBJECT}")
            self._report(error.reason)
            if error.status == 507 or error.code in _FULL:
                return StoreFull(f"{self._name} has no room for the data")
            if error.code == "EntityTooLarge":
                return StoreFull(f"{self._name} cannot hold so large an object")
            return StoreUnavailable(f"{self._name}: its server answers with status {error.status}")
        if isinstance(error, FetchFailed):
            self._report(error.reason)
            return StoreUnavailable(f"{self._name}: its server {error.predicate}")
        self._report(str(error))
        return StoreUnavailable(f"{self._name} has no credentials")
