"""Why a measurement has no figure."""


class Wrong(Exception):
    """A server did what it must not do; the message names it. The benchmark ends with 1."""


class LeftOut(Exception):
    """The measurement cannot be made here; the message says what is missing. Nobody's fault."""
