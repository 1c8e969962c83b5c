"""What TCP says of a path while it is probed: round trip, loss, the largest packet. No I/O."""

import statistics
import time

from drover.engine.status import LinkStatus, TcpTotals
from drover.estimator.rates import quantile
from drover.model.observation import Interval, LinkState

_ENOUGH_SEGMENTS = 1000
"""With fewer even what the probe's own queue has lost is the better guess."""

_MEASURABLE = 0.002
"""Seconds; below, TCP's smallest round trip is that of some moment, not of the path."""
_ENGINES = 0.001
"""Seconds that the engines may add to a heartbeat."""


class Watch:
    """Collects it from one look at the source's link after the other."""

    def __init__(self) -> None:
        self.mss = 1448
        self.congestion = ""
        self._mtu = 0
        self._smallest = float("inf")
        self._idle: list[float] = []
        self._all: list[float] = []
        self._busy: list[float] = []
        self._totals = TcpTotals()
        self._gentle: TcpTotals | None = None

    def see(self, link: LinkStatus, *, idle: bool = False, busy: bool = False) -> None:
        """One look; `idle` if nothing was being sent, so that no queue of our own is in the round trip.

        `busy` if bulk was sent as fast as the link takes it: what others find on it then.
        """
        self._totals = link.tcp
        told = [one.tcp for one in link.each_connection if one.tcp is not None and one.tcp.round_trip_seconds > 0]
        if not told:
            return
        self.mss, self.congestion = told[0].mss or self.mss, told[0].congestion
        self._mtu = min(tcp.path_mtu for tcp in told)
        smallest = [tcp.min_round_trip_seconds for tcp in told if tcp.min_round_trip_seconds > 0]
        self._smallest = min([self._smallest, *smallest])
        middle = statistics.median(tcp.round_trip_seconds for tcp in told)
        self._all.append(middle)
        if busy:
            self._busy.append(middle)
        # Heartbeats: the smoothed figure of TCP holds acknowledgements that an idle peer has put off.
        if idle and link.round_trip_seconds is not None:
            self._idle.append(link.round_trip_seconds)

    def see_gentle(self, sent: TcpTotals) -> None:
        """What was sent so slowly that it filled no queue: what is lost of that, the path has lost."""
        self._gentle = sent

    @property
    def is_known(self) -> bool:
        """Whether there is a round trip."""
        return bool(self._idle)

    @property
    def round_trip(self) -> float:
        """Seconds, of the path without a queue. Raises ValueError if there was no look while it was idle.

        The lower quartile: what busy processors add to a heartbeat only ever makes it longer. Where the smallest that
        TCP saw is as good as that, it is the better one: no engine is in it.
        """
        heartbeat = quantile(self._idle, 0.25)
        if self._smallest >= _MEASURABLE and heartbeat - self._smallest < _ENGINES:
            return self._smallest
        return max(heartbeat, self._smallest if self._smallest < float("inf") else 0.0)

    def state(self) -> LinkState:
        """Everything that was seen so far. Raises ValueError if there was no look while the link was idle."""
        usual = self.round_trip
        gentle = self._gentle is not None and self._gentle.segments >= _ENOUGH_SEGMENTS
        return LinkState(
            at=time.time(),
            round_trip=Interval(
                value=usual, low=min(self._smallest, usual), high=max(quantile(self._all, 0.95), usual)
            ),
            busy=Interval(
                value=statistics.median(self._busy), low=quantile(self._busy, 0.05), high=quantile(self._busy, 0.95)
            )
            if self._busy
            else None,
            loss=loss(self._gentle if gentle and self._gentle else self._totals),
            segments=self._totals.segments,
            mtu=self._mtu,
            retransmitted=self._totals.retransmitted_segments,
        )


def loss(sent: TcpTotals) -> float:
    """The share of segments that were lost: sent again, and the peer had not got them already."""
    lost = max(sent.retransmitted_segments - sent.spurious_segments, 0)
    return min(lost / sent.segments, 1.0) if sent.segments else 0.0


def between(before: TcpTotals, after: TcpTotals) -> TcpTotals:
    """What was added from one look to another."""
    first, last = before.model_dump(), after.model_dump()
    return TcpTotals.model_validate({name: last[name] - first[name] for name in TcpTotals.model_fields})
