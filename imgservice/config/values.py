"""Reads single values: from what YAML makes of them to the types of the options."""

import os
import re
from pathlib import Path
from typing import TypeGuard, get_args

from imgservice.domain.rates import ByteRate, Rate
from imgservice.domain.units import Duration, Secret, Size, Urls, told

_SIZE = re.compile(r"(\d+)\s*(?:([KMGTP]i?)?B?)", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def parse_size(value: object, _type: object = None) -> Size:
    """Read 10, "10", 10KB (1000), 10KiB (1024)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Size(value)
    matched = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if matched is None:
        raise ValueError(f"expected a size such as 10GiB, got {told(value)}")
    number, unit = matched.groups(default="")
    base = 1024 if unit[1:].lower() == "i" else 1000
    return Size(int(number) * base ** _POWERS[unit[:1].upper()])


def duration(value: object, _type: object) -> Duration:
    if not _is_number(value):
        raise ValueError(f"expected a number of seconds, got {told(value)}")
    return Duration(value)


def rate(value: object, type_: object) -> Rate:
    """Read `{per_second: …, burst: …}`, of numbers or of sizes."""
    if not isinstance(value, dict) or value.keys() != {"per_second", "burst"}:
        raise ValueError(f"expected {{per_second: …, burst: …}} or null, got {told(value)}")
    make, read = (ByteRate, parse_size) if type_ is ByteRate else (Rate, _number)
    found = make(read(value["per_second"]), read(value["burst"]))
    if found.per_second <= 0 or found.burst < 1:
        raise ValueError(f"expected per_second above 0 and burst of at least 1, got {value!r}")
    return found


def _number(value: object) -> float:
    if not _is_number(value):
        raise ValueError(f"expected a number, got {told(value)}")
    return value


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def urls(value: object, _type: object) -> Urls:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(url, str) for url in found):
        raise ValueError(f"expected a URL or a list of URLs, got {told(value)}")
    return Urls(tuple(found))


def string(value: object, _type: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {told(value)}")
    return value


def integer(value: object, _type: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {told(value)}")
    return value


def boolean(value: object, _type: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {told(value)}")
    return value


def workers(value: object, _type: object) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value != "auto" and not is_number:
        raise ValueError(f"expected a whole number or auto, got {told(value)}")
    return value


def literal(value: object, type_: object) -> object:
    """Read one of a few words; `"1.2"` needs no quotes."""
    allowed = get_args(type_)
    text = str(value) if isinstance(value, float) else value
    if text not in allowed:
        raise ValueError(f"expected one of {', '.join(map(str, allowed))}, got {told(value)}")
    return text


def secret(value: object, _type: object) -> Secret:
    """Take a string, or read it from where `{file: …}` or `{env: …}` says."""
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, dict) and len(value) == 1:
        [(kind, place)] = value.items()
        if kind == "file" and isinstance(place, str):
            return Secret(_secret_file(place))
        if kind == "env" and isinstance(place, str):
            return Secret(_secret_variable(place))
    raise ValueError("expected a string, {file: PATH} or {env: NAME}")


def _secret_file(place: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise ValueError(f"{place}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{place}: cannot be read: not UTF-8 text") from None


def _secret_variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ValueError(f"the environment variable {name} is not set")
    return value


def store_name(value: object) -> str:
    """Read the name of a store."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        raise ValueError(f"store names consist of letters, digits, '_', '.' and '-'; got {value!r}")
    if value.startswith("os_glance_"):
        raise ValueError(f"names that begin with os_glance_ are reserved; got {value!r}")
    return value
