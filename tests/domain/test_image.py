"""The states of an image."""

from imgservice.domain.image import TRANSITIONS, Location, Status


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(Status)


def test_data_is_never_replaced() -> None:
    """From a state in which an image has data no way leads back to one that takes data."""
    reachable, todo = set(), [Status.ACTIVE, Status.DEACTIVATED, Status.PENDING_DELETE]
    while todo:
        status = todo.pop()
        if status not in reachable:
            reachable.add(status)
            todo += TRANSITIONS[status]
    assert not reachable & {Status.QUEUED, Status.SAVING, Status.UPLOADING, Status.IMPORTING}


def test_a_location_knows_its_store_by_the_old_name_too() -> None:
    assert Location("x", {"store": "fast"}).store == "fast"
    assert Location("x", {"backend": "old"}).store == "old"
    assert Location("x").store is None


def test_a_location_does_not_print_its_url() -> None:
    assert "secret" not in repr(Location("swift+https://user:secret@host/x"))
