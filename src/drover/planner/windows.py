"""Maintenance windows as the planner asks for them. No I/O."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from drover.estimator.order import Bunch
from drover.model.hours import Hours
from drover.planner.work import NextWindow


def next_window(hours: Sequence[Hours]) -> NextWindow | None:
    """The windows in these hours of the week; None, that is any time, without any."""
    if not hours:
        return None
    bunch = Bunch(name="", members=(), windows=tuple(hours))

    def following(after: datetime, needed: timedelta) -> datetime | None:
        opens = bunch.opens(after.timestamp(), needed.total_seconds())
        return None if math.isinf(opens) else datetime.fromtimestamp(opens, UTC)

    return following
