"""Events reach those who listen to their class, and a broken listener harms nobody."""

from datetime import UTC, datetime
from typing import Any

import attrs

from imgservice.domain.context import Context
from imgservice.domain.image import Image, Status
from imgservice.service.events import (
    Event,
    ImageCreated,
    ImageEvent,
    ImageSent,
    ImageUpdated,
    Listener,
)
from imgservice.telemetry.events import EventHub
from imgservice.troubles import Troubles
from tests.logs import lines

__all__ = ["lines"]  # a fixture

NOW = datetime.now(UTC).replace(tzinfo=None)
ABOUT: dict[str, Any] = {
    "context": Context("alice", "ours"),
    "image": Image(id="i", status=Status.QUEUED, created_at=NOW, updated_at=NOW),
}


@attrs.define
class Recording:
    """Notes what it hears, and raises while it is broken; like any such value, it has no hash."""

    hears: tuple[type[Event], ...]
    heard: list[Event] = attrs.field(factory=list)
    is_broken: bool = False

    def hear(self, event: Event) -> None:
        if self.is_broken:
            raise RuntimeError("out of order")
        self.heard.append(event)


def hub(*listeners: Listener) -> EventHub:
    return EventHub(listeners, Troubles())


def test_a_listener_hears_its_classes_and_their_subclasses() -> None:
    created, images, everything = (
        Recording((ImageCreated,)),
        Recording((ImageEvent,)),
        Recording((Event,)),
    )
    events = hub(created, images, everything)
    told = [ImageCreated(**ABOUT), ImageUpdated(**ABOUT), ImageSent(**ABOUT, sent=5)]
    for event in (*told, Event(context=Context())):
        events.tell(event)
    assert created.heard == told[:1]
    assert images.heard == told
    assert everything.heard[:3] == told and len(everything.heard) == 4


def test_events_name_their_moment() -> None:
    before = datetime.now(UTC).timestamp()
    event = ImageCreated(**ABOUT)
    assert before <= event.at <= datetime.now(UTC).timestamp()


def test_nothing_of_an_image_is_in_what_is_printed() -> None:
    """Locations and properties of an image may be secrets."""
    assert "Image(" not in repr(ImageCreated(**ABOUT)) and "alice" not in repr(
        ImageCreated(**ABOUT)
    )


def test_a_broken_listener_harms_nobody_and_is_logged_once(lines: list[str]) -> None:
    broken, well = Recording((Event,), is_broken=True), Recording((Event,))
    troubles = Troubles()
    events = EventHub((broken, well), troubles)
    for _ in range(3):
        events.tell(ImageCreated(**ABOUT))
    assert len(well.heard) == 3
    [trouble] = troubles.present
    assert (trouble.what, trouble.why) == (
        "The listener Recording",
        "RuntimeError: out of order",
    )
    assert not trouble.is_essential
    assert len(lines) == 2 and lines[0].startswith("The listener Recording fails: RuntimeError")
    broken.is_broken = False
    events.tell(ImageUpdated(**ABOUT))
    assert troubles.present == [] and len(broken.heard) == 1
    assert lines[2].startswith("The listener Recording works again")
