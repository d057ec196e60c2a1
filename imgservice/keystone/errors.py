"""Why Keystone cannot be asked. Clients are not told the reason."""

from imgservice.domain.errors import Unavailable


class KeystoneError(Unavailable):
    """Keystone gives no usable answer; `reason` is for the operator alone."""

    def __init__(self, reason: str) -> None:
        super().__init__("Your token cannot be validated at present; please try again later.")
        self.reason = reason


class KeystoneUnreachable(KeystoneError):
    """No URL of Keystone gives a usable answer."""


class CredentialsRefused(KeystoneError):
    """Keystone answers, but rejects our own credentials."""
