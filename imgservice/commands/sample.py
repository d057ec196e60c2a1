"""`imgservice sample`."""

import click


@click.command()
def sample() -> None:
    """Print a configuration file with every key, its default and what it does."""
    from imgservice.sample import sample as text

    click.echo(text(), nl=False)
