"""From texts to values, as Glance reads them; `ValueError` tells what was expected."""

import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Read = Callable[[str], T]
"""Reads the text of an option."""

TRUE = ("true", "1", "on", "yes")
_FALSE = ("false", "0", "off", "no")


def boolean(text: str) -> bool:
    if text.lower() not in (*TRUE, *_FALSE):
        raise ValueError(f"expected true or false, got {text!r}")
    return text.lower() in TRUE


def string(text: str) -> str:
    return text


def number(text: str) -> int | float:
    """Read seconds and the like."""
    if not re.fullmatch(r"-?\d{1,12}(\.\d{1,9})?", text, re.ASCII):
        raise ValueError(f"expected a number, got {text!r}")
    return float(text) if "." in text else int(text)


def whole(least: int, most: int = 1 << 63) -> Read[int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,30}", text, re.ASCII) or not least <= int(text) <= most:
            upper = f" and at most {most}" if most < 1 << 63 else ""
            raise ValueError(f"expected a whole number of at least {least}{upper}, got {text!r}")
        return int(text)

    return read


def limit(text: str) -> int:
    """Read a number; any below zero means that there is no limit."""
    return max(-1, whole(-(1 << 63))(text))


def words(text: str) -> list[str]:
    """Read a list, in brackets or not, of words in quotes or not."""
    inner = text.strip().rstrip(",")
    if inner.startswith("[") != inner.endswith("]"):
        raise ValueError(f"expected a list, or one in brackets, got {text!r}")
    inner = inner.removeprefix("[").removesuffix("]").strip().rstrip(",")
    return [_unquoted(word.strip()) for word in inner.split(",")] if inner else []


def _unquoted(word: str) -> str:
    if word[:1] not in ("'", '"', ""):
        return word
    if len(word) < 2 or word[-1] != word[0]:
        raise ValueError(f"expected a word in the list, got {word!r}")
    return word[1:-1]


def ports(text: str) -> list[int]:
    return [whole(1, 65535)(word) for word in words(text)]


def pairs(text: str) -> dict[str, str]:
    """Read `name:value, name:value`."""
    found: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, colon, value = (part.strip() for part in item.partition(":"))
        if not (name and colon and value):
            raise ValueError(f"expected name:value, got {item!r}")
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found


def storage(text: str) -> str | int:
    """Read `10GB`, which Glance takes for 10 GiB."""
    matched = re.fullmatch(r"(\d{1,18})(?:([KMGT]?)B)?", text, re.ASCII)
    if matched is None:
        raise ValueError(f"expected a size such as 10GB, got {text!r}")
    amount, unit = int(matched[1]), matched[2]
    return f"{amount}{unit}iB" if unit and amount else amount


def file_mode(text: str) -> str | None:
    """Read digits that mean octal ones, as in 640; 0 is what the umask leaves."""
    if not re.fullmatch(r"0*[0-7]{1,3}", text, re.ASCII):
        raise ValueError(f"expected permissions as in 640, got {text!r}")
    return f"0{int(text):03}" if int(text) else None


def directory(text: str) -> tuple[str, int]:
    """Read a directory and its priority, as in /srv/a:200."""
    path, _, priority = (part.strip() for part in text.rpartition(":"))
    if not path:
        return text.strip(), 0
    if not re.fullmatch(r"-?\d{1,9}|", priority, re.ASCII):
        raise ValueError(f"expected a directory and a number, as in /srv/a:200, got {text!r}")
    return path, int(priority or 0)
