"""Finding the driver of a type, built in or installed beside."""

from pathlib import Path

import attrs
import pytest

from imgservice.domain.options import declaration
from imgservice.store.file.config import FileConfig
from imgservice.store.file.store import FileStore
from imgservice.store.memory import MemoryConfig, MemoryStore
from imgservice.store.registry import StoreConfig, UnknownStoreType, driver, type_names

PLUGIN = """
import attrs
from imgservice.domain.options import option
from imgservice.store.memory import MemoryStore
from imgservice.store.registry import Driver, StoreConfig

@attrs.frozen(kw_only=True)
class TapeConfig(StoreConfig):
    reel: int = option(1, "which one")

DRIVER = Driver(config=TapeConfig, create=MemoryStore)
NOTHING = None
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that offers drivers, as a package manager would lay it down."""
    information = tmp_path / "tapestore-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tapestore\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[imgservice.stores]\n"
        "tape = tapestore:DRIVER\n"
        "file = tapestore:DRIVER\n"
        "odd = tapestore:NOTHING\n"
        "broken = tapestore_needs:DRIVER\n"
    )
    (tmp_path / "tapestore.py").write_text(PLUGIN)
    (tmp_path / "tapestore_needs.py").write_text("import robotics_of_the_library\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_the_built_in_types() -> None:
    assert type_names()[:2] == ["file", "memory"]
    assert (driver("file").config, driver("file").create) == (FileConfig, FileStore)
    assert (driver("memory").config, driver("memory").create) == (MemoryConfig, MemoryStore)


@pytest.mark.parametrize("type_name", ["file", "memory"])
def test_every_option_is_documented(type_name: str) -> None:
    config = driver(type_name).config
    assert issubclass(config, StoreConfig)
    for field in attrs.fields(config):
        assert declaration(field).doc, field.name
        assert field.default is not attrs.NOTHING


def test_an_unknown_type_names_the_known_ones() -> None:
    with pytest.raises(UnknownStoreType, match=r"no store type 'punched cards'.*file, memory"):
        driver("punched cards")


@pytest.mark.usefixtures("installed")
def test_an_installed_distribution_adds_a_type() -> None:
    assert "tape" in type_names()
    assert driver("tape").config(reel=7, weight=3).weight == 3  # type: ignore[call-arg]


@pytest.mark.usefixtures("installed")
def test_a_built_in_type_cannot_be_replaced() -> None:
    assert type_names().count("file") == 1
    assert driver("file").create is FileStore


@pytest.mark.usefixtures("installed")
def test_a_driver_whose_needs_are_missing_says_what() -> None:
    with pytest.raises(UnknownStoreType, match=r"'broken' cannot be used.*robotics_of_the_library"):
        driver("broken")
    with pytest.raises(UnknownStoreType, match="no driver"):
        driver("odd")
