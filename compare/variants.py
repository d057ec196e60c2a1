"""Configurations that some sequences need, for both servers."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

FILE = Path(__file__).with_name("variants.yaml")


@cache
def variants() -> Mapping[str, Mapping[str, Any]]:
    """Return all of them by their names, as the file has them."""
    found: dict[str, Mapping[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return found


def our_options(variant: str | None, directory: Path, origin: str) -> dict[str, Any]:
    """Write the files that the variant needs to the directory, and return the options."""
    if variant is None:
        return {}
    write_files(variant, directory)
    values = {"origin_host": str(urlsplit(origin).hostname), "files": str(directory)}
    options: dict[str, Any] = _filled(variants()[variant]["ours"], values)
    return options


def peer_options(variant: str, origin_host: str, origin_port: int, files: Path) -> str:
    """Return what is to be added to the configuration of a Glance, which may use the directory."""
    values = {
        "origin_host": origin_host,
        "origin_port": str(origin_port),
        "files": str(files.absolute()),
    }
    text: str = _filled(variants()[variant]["peer"], values)
    return text


def write_files(variant: str, directory: Path) -> list[Path]:
    """Write the files that both servers have, and return which."""
    written = []
    for name, content in variants()[variant].get("files", {}).items():
        path = directory / name
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
        written.append(path)
    return written


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, one in values.items():
            value = value.replace(f"{{{name}}}", one)
        return value
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    return value


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings in one; where both have a value, the other one's."""
    result = dict(one)
    for name, value in other.items():
        if isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result
