"""`imgservice convert-config`: converts Glance's configuration files."""

from pathlib import Path

import click

from imgservice.commands.configuration import tell
from imgservice.config.errors import ConfigError
from imgservice.glance_config import ConversionError, Converted, convert_files_of_glance
from imgservice.wiring.trial import try_build

_NOT_ALL = 3
"""Exit code when something important could not be converted."""

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("convert-config")
@click.argument("files", nargs=-1, type=_FILE)
@click.option(
    "--config-dir", "folders", type=_FOLDER, multiple=True, help="Read its *.conf files too, last."
)
@click.option(
    "--secrets-to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each password to a file of its own in this directory.",
)
def convert_config(
    files: tuple[Path, ...], folders: tuple[Path, ...], secrets_to: Path | None
) -> None:
    """Convert FILES, the configuration files of Glance, and print the result.

    Name glance-api.conf and all other files that your Glance reads, in the same order, and its
    glance-api-paste.ini. An option that imgservice does not have is kept as a comment. The exit
    code is 3 if such an option is important, and 1 if the files have mistakes.
    """
    if not files and not folders:
        raise click.UsageError("name the files to convert, such as /etc/glance/glance-api.conf")
    try:
        converted = convert_files_of_glance(files, folders, secrets_to)
    except ConversionError as error:
        for line in str(error).splitlines():
            tell(line)
        raise SystemExit(1) from None
    click.echo(converted.text, nl=False)
    _sum_up(converted, secrets_to)
    if converted.matters:
        raise SystemExit(_NOT_ALL)


def _sum_up(converted: Converted, secrets_to: Path | None) -> None:
    for one in converted.matters:
        tell(f"not converted: {one}")
    for one in converted.notes:
        tell(f"note: {one}")
    try:
        try_build(converted.config)
    except ConfigError as error:
        tell(f"note: the service would not start with this configuration: {error}")
    if converted.secrets and secrets_to is None:
        for one in converted.secrets:
            tell(f"warning: the output contains a secret: {one}")
        tell("warning: keep the output secret, or use --secrets-to DIRECTORY, or {file: PATH}")
    tell(
        f"{converted.converted} options converted, {converted.kept} kept as comments"
        f" ({len(converted.matters)} important), {len(converted.ignored)} not needed"
    )
