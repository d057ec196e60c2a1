"""How the rows of the tables are named."""


def connections_of(count: int) -> str:
    """Name a number of connections."""
    return "1 connection" if count == 1 else f"{count} connections"
