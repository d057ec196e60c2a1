"""`imgservice convert-config`: makes our configuration file of Glance's."""

from pathlib import Path

import click

from imgservice.config.errors import ConfigError
from imgservice.glance_config import ConversionError, Converted, convert_files_of_glance
from imgservice.wiring.trial import try_build

_NOT_ALL = 3
"""Exit code when something that matters could not be converted."""

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("convert-config")
@click.argument("files", nargs=-1, type=_FILE)
@click.option(
    "--config-dir", "folders", type=_FOLDER, multiple=True, help="Read its *.conf, too, at last."
)
@click.option(
    "--secrets-to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Put every password into a file of its own in this directory.",
)
def convert_config(
    files: tuple[Path, ...], folders: tuple[Path, ...], secrets_to: Path | None
) -> None:
    """Print a configuration file that says what these FILES of Glance say.

    Give glance-api.conf and all other files that your Glance reads, in its order, and its
    glance-api-paste.ini. What has no key here is kept as a comment. The exit code is 3 when
    that is something important, 1 when the files have mistakes.
    """
    if not files and not folders:
        raise click.UsageError("say which files, such as /etc/glance/glance-api.conf")
    try:
        converted = convert_files_of_glance(files, folders, secrets_to)
    except ConversionError as error:
        for line in str(error).splitlines():
            _say(line)
        raise SystemExit(1) from None
    click.echo(converted.text, nl=False)
    _sum_up(converted, secrets_to)
    if converted.matters:
        raise SystemExit(_NOT_ALL)


def _sum_up(converted: Converted, secrets_to: Path | None) -> None:
    for one in converted.matters:
        _say(f"not converted: {one}")
    for one in converted.notes:
        _say(f"note: {one}")
    try:
        try_build(converted.config)
    except ConfigError as error:
        _say(f"note: as it is, the service would not start with it: {error}")
    if converted.secrets and secrets_to is None:
        for one in converted.secrets:
            _say(f"warning: the output contains a secret: {one}")
        _say("warning: keep it from others, or use --secrets-to DIRECTORY, or {file: PATH}")
    _say(
        f"{converted.converted} options converted, {converted.kept} kept as comments"
        f" ({len(converted.matters)} important), {len(converted.ignored)} not needed"
    )


def _say(line: str) -> None:
    click.echo(f"imgservice: {line}", err=True)
