"""Does in the fork server what every child would do again, with memory of its own."""

from contextlib import suppress

from imgservice.config.errors import ConfigError
from imgservice.config.loader import parse
from imgservice.wiring.trial import try_build


def warm_up() -> None:
    """Build the service with the default configuration, and throw it away.

    What is made once in a process is then there, as are the modules that a build imports.
    """
    with suppress(ConfigError):
        try_build(parse("", "defaults"))
