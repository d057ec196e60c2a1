"""How many files and connections this process may have open."""

import resource

from twisted.logger import Logger

_log = Logger()


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one; it is low because of programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        _log.warn("The limit of open files stays {soft}: {error}", soft=soft, error=error)
