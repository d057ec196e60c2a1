"""How many files and connections this process may have open."""

import resource

from twisted.logger import Logger

_log = Logger()


def raise_descriptor_limit() -> None:
    """Take as many as we are allowed: the soft limit is there for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        _log.warn("The limit of descriptors stays {soft}: {error}", soft=soft, error=error)
