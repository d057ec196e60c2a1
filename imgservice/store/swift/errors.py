"""What Swift refuses as errors of the store."""

from collections.abc import Callable

from imgservice.net.answers import Fetched
from imgservice.store.interface import (
    DataExists,
    DataNotFound,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from imgservice.store.names import NO_OBJECT

_EXISTS = (409, 412)
_TOO_LARGE = 413
_NO_ROOM = 507
_PASSING = (408, 429, 498, 499, 500, 502, 503, 504)


class NoAccess(Exception):
    """There is no token; the reason is for operators, and has no credentials."""


class Failures:
    """Makes the store's errors, and reports those that an operator must know of.

    Clients see no more than that the store fails.
    """

    def __init__(self, name: str, report: Callable[[str], object]) -> None:
        self._name = name
        self._report = report

    def unavailable(self, why: str) -> StoreUnavailable:
        """Report why, and return the error for clients."""
        self._report(why)
        return StoreUnavailable(f"{self._name} cannot be used at present")

    def missing(self) -> DataNotFound:
        return DataNotFound(f"{self._name} {NO_OBJECT}")

    def exists(self) -> DataExists:
        return DataExists(f"{self._name} already has an object for this image")

    def too_many_segments(self) -> StoreFull:
        return StoreFull(f"{self._name} has no room for so large an object")

    def of(self, answer: Fetched, request: str) -> StoreError:
        """Return the error that the status of an answer means; `request` names what was asked."""
        if answer.status == 404:
            return self.missing()
        if answer.status in _EXISTS:
            return self.exists()
        if answer.status == _TOO_LARGE:
            return StoreFull(f"{self._name} has no room for so large an object")
        if answer.status == _NO_ROOM:
            self._report(f"Swift answers {request} with status {_NO_ROOM}: it is full")
            return StoreFull(f"{self._name} has no room for the data")
        return self.unavailable(f"Swift answers {request} with status {answer.status}")


def is_passing(answer: Fetched) -> bool:
    """Tell whether the same request may soon succeed."""
    return answer.status in _PASSING
