"""The permissions that new files of this process do not get."""

import os


def present_umask() -> int:
    """Return the umask. For a moment it is stricter: it cannot be read without being set."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
