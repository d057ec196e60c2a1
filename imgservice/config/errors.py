"""What is raised when the configuration cannot be used."""

from collections.abc import Sequence


class ConfigError(Exception):
    """The configuration cannot be used; the message has one line for each mistake."""


class OptionError(ConfigError):
    """The value of an option cannot be used, for a `reason`; `path` is its place."""

    def __init__(self, path: Sequence[str | int], reason: str) -> None:
        super().__init__(f"{dotted(path)}: {reason}")
        self.path = tuple(path)
        self.reason = reason


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as in `server.listen[0]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".") or "the file"
