"""Files that are read again when they change, and what the log says of it."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from imgservice.concurrency import file_watch as watched
from imgservice.concurrency.file_watch import Unreadable, Watched, read_text, request_begins
from imgservice.policy.files import Sources
from tests.logs import log_lines


@attrs.define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@attrs.define
class Subject:
    """A watched file, and how often it was read."""

    path: Path
    clock: Clock = attrs.field(factory=Clock)
    readings: int = 0
    watched: Watched[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.watched = Watched(lambda: [self.path], self._read, self.clock)

    def _read(self) -> str:
        self.readings += 1
        text = read_text(self.path)
        if "broken" in text:
            raise Unreadable(f"{self.path}:1: broken")
        if "too deep" in text:
            raise RecursionError
        return text

    def next(self) -> str:
        """Return what holds for a new request."""
        request_begins()
        return self.watched()

    def compares(self) -> bool:
        return self.watched._contents is not None


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    path = tmp_path / "file"
    path.write_text("one")
    return Subject(path)


@pytest.fixture
def said() -> Iterator[list[str]]:
    with log_lines() as found:
        yield found


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_change_counts_for_the_next_request(subject: Subject) -> None:
    assert subject.watched() == "one"
    subject.path.write_text("other")
    assert subject.next() == "other"
    replace(subject.path, "third")
    assert subject.next() == "third"
    assert subject.readings == 3


def test_files_are_looked_at_once_in_a_request(subject: Subject) -> None:
    assert subject.next() == "one"
    subject.path.write_text("other")
    assert subject.watched() == "one"
    subject.clock.now += watched.INTERVAL  # what asks without a request sees it as well
    assert subject.watched() == "other"


def test_changes_within_one_tick_of_the_file_system_are_seen(subject: Subject) -> None:
    """Memory that is shared with the file leaves its times as they are, like a quick second write
    where the file system's clock is coarse."""
    alike = 0
    with subject.path.open("r+b") as file, mmap.mmap(file.fileno(), 3) as memory:
        for number in range(100, 200):
            before = watched.file_state(str(subject.path))
            memory[:] = str(number).encode()
            alike += watched.file_state(str(subject.path)) == before
            assert subject.next() == str(number)
    assert alike


def test_quick_changes_are_all_seen(subject: Subject) -> None:
    for number in range(1000, 1200):
        subject.path.write_text(str(number))
        assert subject.next() == str(number)


def test_contents_are_not_compared_when_a_change_is_long_past(subject: Subject) -> None:
    subject.clock.now += watched.SETTLE_TIME
    subject.next()
    assert not subject.compares()
    subject.path.write_text("two")
    assert subject.next() == "two"
    assert subject.compares()
    subject.clock.now += watched.SETTLE_TIME
    subject.next()
    assert not subject.compares()
    assert subject.readings == 2


def test_a_broken_file_keeps_the_previous_version_and_is_told_once(
    subject: Subject, said: list[str]
) -> None:
    subject.path.write_text("broken")
    for _ in range(3):
        assert subject.next() == "one"
        subject.clock.now += 1
    subject.path.unlink()
    for _ in range(3):
        assert subject.next() == "one"
    subject.path.write_text("two")
    assert subject.next() == "two"
    place = f"{subject.path}"
    assert said == [
        f"{place}:1: broken; keeping the previous version",
        f"{place}: cannot be read: No such file or directory; keeping the previous version",
        f"Read again: {place}",
    ]


def test_a_reader_that_fails_refuses_no_request(subject: Subject, said: list[str]) -> None:
    subject.path.write_text("too deep")
    for _ in range(3):
        assert subject.next() == "one"
        subject.clock.now += 1
    subject.path.write_text("two")
    assert subject.next() == "two"
    assert said == [
        f"{subject.path}: cannot be read; keeping the previous version",
        f"Read again: {subject.path}",
    ]


def test_a_file_that_may_be_read_again_is_read(tmp_path: Path) -> None:
    """Its mode changes no time but that of its attributes."""
    (tmp_path / "file").write_text("one")
    subject = Subject(tmp_path / "file")
    before = watched.file_state(str(subject.path))
    while watched.file_state(str(subject.path)) == before:
        subject.path.chmod(0o600)
    subject.next()
    assert subject.readings == 2


def test_a_file_emptied_in_place_is_being_written(subject: Subject) -> None:
    os.truncate(subject.path, 0)
    assert subject.next() == "one"
    subject.path.write_text("written")
    assert subject.next() == "written"
    os.truncate(subject.path, 0)
    assert subject.next() == "written"
    subject.clock.now += watched.EMPTY_TIME
    assert subject.next() == ""


def test_a_file_replaced_by_an_empty_one_is_empty(subject: Subject) -> None:
    replace(subject.path, "")
    assert subject.next() == ""


def test_folders_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    sources = Sources(None, [folder])
    found = Watched(sources.watched, lambda: {n: w.text for n, w in sources.read()[0].items()})

    def now() -> object:
        request_begins()
        return found()

    assert now() == {}
    (folder / "a.yaml").write_text("a: role:a")
    assert now() == {"a": "role:a"}
    (folder / "b.yaml").symlink_to(tmp_path / "later")
    assert now() == {"a": "role:a"}
    (tmp_path / "later").write_text("b: role:b")
    assert now() == {"a": "role:a", "b": "role:b"}
    (folder / "a.yaml").write_text("a: role:c")
    assert now() == {"a": "role:c", "b": "role:b"}
    (folder / "a.yaml").unlink()
    assert now() == {"b": "role:b"}
