"""What is raised when the configuration cannot be used."""

from collections.abc import Sequence


class ConfigError(Exception):
    """The configuration cannot be used; the message has one line for every mistake."""


class OptionError(ConfigError):
    """An option has a value of the right type that cannot be used; `path` is its place."""

    def __init__(self, path: Sequence[str | int], message: str) -> None:
        super().__init__(f"{dotted(path)}: {message}")
        self.path = tuple(path)


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as in `server.listen[0]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".") or "the file"
