"""Converts the configuration of a Glance."""

import re
from collections.abc import Sequence
from pathlib import Path

import attrs

from imgservice.config.errors import ConfigError
from imgservice.config.loader import parse
from imgservice.config.sections import Config
from imgservice.glance_config.conversion import Conversion, Folders
from imgservice.glance_config.database import convert_database
from imgservice.glance_config.document import Document
from imgservice.glance_config.files import convert_files
from imgservice.glance_config.ini import Assignment, Given, IniError, read_files
from imgservice.glance_config.paste import Paste, is_paste
from imgservice.glance_config.plain import convert_plain
from imgservice.glance_config.remarks import keep_the_rest
from imgservice.glance_config.secrets import Secrets, SecretsError
from imgservice.glance_config.serving import (
    convert_chain,
    convert_listen,
    filter_options,
    read_chain,
)
from imgservice.glance_config.silent import remark_on_changes
from imgservice.glance_config.stores import convert_stores

_STANDARD_FOLDERS = (Path("/etc/glance"), Path("/etc"))


class ConversionError(Exception):
    """The files cannot be converted; the message has one line for every mistake."""


@attrs.frozen
class Converted:
    """Our configuration file, and remarks on it."""

    text: str
    config: Config
    converted: int
    kept: int
    ignored: Sequence[str]
    matters: Sequence[str]
    notes: Sequence[str]
    secrets: Sequence[str]
    """Where Glance's files have the secrets that are now in our file or in files of their own."""


def convert_files_of_glance(
    paths: Sequence[Path], folders: Sequence[Path] = (), secrets_to: Path | None = None
) -> Converted:
    """Convert Glance's files, and write the files for secrets. `ConversionError` if that fails."""
    looked_in = [*folders, *dict.fromkeys(path.parent for path in reversed(paths))]
    names = ", ".join(map(str, [*paths, *folders]))
    try:
        settings, paste = _read(paths, folders)

        def convert(secrets: Secrets) -> Conversion:
            head = (
                f"Converted from {names}. Comments quote options of Glance that were not converted."
            )
            found_in = Folders([*looked_in, *_STANDARD_FOLDERS])
            return _convert(settings, paste, Document(head), secrets, found_in)

        done = _finish(convert(Secrets(None)))
        if secrets_to is None:
            return done
        secrets = Secrets(secrets_to)
        again = convert(secrets)
        secrets.save()
        return _finish(again)
    except (IniError, SecretsError) as error:
        raise ConversionError(str(error)) from None


def _read(paths: Sequence[Path], folders: Sequence[Path]) -> tuple[list[Assignment], Paste | None]:
    """Separate the settings from the file for Paste."""
    settings: list[Assignment] = []
    pastes: list[Sequence[Assignment]] = []
    for path in paths:
        found = read_files([path], [])
        if is_paste(found):
            pastes.append(found)
        else:
            settings += found
    if len(pastes) > 1:
        raise IniError(f"{pastes[1][0].file}: is a second file for Paste: give one")
    settings += read_files([], folders)
    return settings, Paste(pastes[0]) if pastes else None


def _convert(
    settings: Sequence[Assignment],
    paste: Paste | None,
    document: Document,
    secrets: Secrets,
    folders: Folders,
) -> Conversion:
    flavor = Given(settings).find("paste_deploy/flavor")
    more = filter_options(paste, flavor.text if flavor else "")
    conversion = Conversion(Given([*settings, *more]), document, secrets, folders)
    convert_listen(conversion)
    chain = read_chain(conversion, paste)
    convert_chain(conversion, chain)
    convert_plain(conversion)
    convert_files(conversion)
    convert_database(conversion)
    convert_stores(conversion)
    remark_on_changes(conversion, chain)
    keep_the_rest(conversion)
    if conversion.mistakes:
        raise ConversionError("\n".join(dict.fromkeys(conversion.mistakes)))
    return conversion


def _finish(conversion: Conversion) -> Converted:
    """Check what was written as the service will."""
    text = conversion.document.write()
    try:
        config = parse(text, "converted")
    except ConfigError as error:
        raise ConversionError(_traced(conversion.document, str(error))) from None
    return Converted(
        text=text,
        config=config,
        converted=len(conversion.converted),
        kept=len(conversion.kept),
        ignored=[f"{one}: {reason}" for one, reason in conversion.ignored],
        matters=conversion.matters,
        notes=conversion.notes,
        secrets=list(dict.fromkeys(str(one) for one in conversion.secrets.places)),
    )


def _traced(document: Document, message: str) -> str:
    """Replace places in our file by places in Glance's."""
    return "\n".join(_traced_line(document, line) for line in message.splitlines())


def _traced_line(document: Document, line: str) -> str:
    matched = re.fullmatch(r"converted:(\d+): (.*)", line)
    source = document.source(int(matched[1])) if matched else None
    return f"{source}: {matched[2]}" if matched and source else line
