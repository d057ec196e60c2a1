"""Reads the file in which Glance has its accounts of Swift, often named glance-swift.conf."""

from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as SyntaxMistake
from pathlib import Path


def read_references(path: str) -> Mapping[str, Mapping[str, str]]:
    """Return the sections by their names, each with its keys; `ValueError` says what is wrong.

    No message contains anything of the file but names of its sections.
    """
    parser = ConfigParser()
    try:
        parser.read_string(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
    except SyntaxMistake as error:
        raise ValueError(f"{path}: is no file of accounts ({type(error).__name__})") from None
    return {name: _section(path, parser, name) for name in parser.sections()}


def _section(path: str, parser: ConfigParser, name: str) -> Mapping[str, str]:
    try:
        return {key: _unquoted(value) for key, value in parser.items(name) if value}
    except (SyntaxMistake, ValueError) as error:
        why = "%% stands for %" if isinstance(error, SyntaxMistake) else str(error)
        raise ValueError(f"{path}: the section {name} has a wrong value ({why})") from None


def _unquoted(value: str) -> str:
    if value[:1] not in "\"'":
        return value
    if len(value) == 1 or value[-1] != value[0]:
        raise ValueError("a quotation mark is not closed")
    return value[1:-1]
