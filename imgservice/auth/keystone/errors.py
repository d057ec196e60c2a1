"""Why Keystone cannot be asked; clients are told no more than that."""

from imgservice.domain.errors import Unavailable


class KeystoneError(Unavailable):
    """Keystone does not answer, or not as it should; `reason` is for the operator alone."""

    def __init__(self, reason: str) -> None:
        super().__init__("Who is asking cannot be found out at present; please try again later.")
        self.reason = reason


class KeystoneUnreachable(KeystoneError):
    """No URL of Keystone gives a usable answer."""


class CredentialsRefused(KeystoneError):
    """Keystone answers, but does not take our own credentials."""
