"""Why another server gave no usable answer."""

from imgservice.domain.errors import Unavailable


class FetchFailed(Unavailable):
    """The other server cannot be reached, or its answer cannot be used.

    The message is for clients: it names no URL. `reason` is for operators.
    """

    def __init__(self, predicate: str, detail: str = "") -> None:
        """`predicate` says what the server does, such as "cannot be reached"."""
        super().__init__(f"The server of the URL {predicate}.")
        self.predicate = predicate
        self.reason = f"{predicate} ({detail})" if detail else predicate
