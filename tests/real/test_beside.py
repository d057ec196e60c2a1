"""Several nodes on one database and one store, each request to the next of them."""

from pathlib import Path

from compare.beside import Services, run_beside
from tests.real.service import Service
from tests.servers import Server

LIVES = 16


def test_two_nodes_share_everything(postgresql: Server, tmp_path: Path) -> None:
    database = {"url": postgresql.create("beside")}
    stores = {"local": {"type": "file", "path": str(tmp_path / "images")}}
    nodes = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        nodes.append(Service(tmp_path / name, {"database": database, "stores": stores}))
    try:
        services = Services([node.start().client.url for node in nodes], {})
        outcome = run_beside(services, 300.0, LIVES)
        assert (outcome.wrong, outcome.lives) == ([], LIVES)
        for node in nodes:
            assert "Traceback" not in node.log.read_text()
    finally:
        for node in nodes:
            node.end()
