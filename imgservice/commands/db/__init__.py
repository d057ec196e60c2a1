"""`imgservice db`: administers the database."""

import click

from imgservice.commands.db.indexes import index
from imgservice.commands.db.purge import purge, purge_images
from imgservice.commands.db.schema import check, sync, version
from imgservice.commands.db.statistics import stats


@click.group()
def db() -> None:
    """Administer the database."""


for _command in (check, index, purge, purge_images, stats, sync, version):
    db.add_command(_command)
db.add_command(sync, "upgrade")
