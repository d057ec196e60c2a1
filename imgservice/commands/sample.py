"""`imgservice sample`."""

import click


@click.command()
def sample() -> None:
    """Print a configuration file with every key, its default and what it does."""
    from imgservice.config.sample import sample as text

    click.echo(text(), nl=False)
