"""A Glance alone, and then several services in turns, are asked the same: nobody may notice."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import attrs

from compare.differences import Comparison, compare
from compare.replay import Played, play
from compare.sequences import RequestSequence
from compare.servers import Peer


@attrs.frozen
class Turns:
    """Services that share everything; each request goes to the next of them."""

    peer: Peer
    urls: Iterator[str]

    @property
    def url(self) -> str:
        return next(self.urls)

    @property
    def projects(self) -> Mapping[str, str]:
        return self.peer.projects

    @property
    def database(self) -> str | None:
        return self.peer.database

    @property
    def origin(self) -> str:
        return self.peer.origin

    def credentials(self, role: str) -> Mapping[str, str]:
        return self.peer.credentials(role)


def can_take_turns(sequence: RequestSequence) -> bool:
    """What happens at the same time is no matter of turns, and all share one configuration."""
    return sequence.race is None and sequence.variant is None


def compare_turns(
    peer: Peer, urls: Sequence[str], sequences: Sequence[RequestSequence]
) -> Iterator[Comparison]:
    """Ask the peer, then those at `urls` in turns, once for each of them who may begin."""
    alone = {one.name: play(peer, one) for one in sequences}
    for first in range(len(urls)):
        order = [*urls[first:], *urls[:first]]
        for one in sequences:
            yield compare(one, alone[one.name], _in_turns(peer, order, one))


def _in_turns(peer: Peer, urls: Sequence[str], sequence: RequestSequence) -> Played:
    return play(Turns(peer, itertools.cycle(urls)), sequence)
