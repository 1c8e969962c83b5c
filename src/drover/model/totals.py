"""What a migration moved and what it cost the VM, over all its runs. Sizes are bytes, rates bytes/s, times seconds."""

from pydantic import BaseModel


class Seen(BaseModel):
    """Counters of a source engine at the last look: one that is lower than before is of a new engine."""

    raw_bytes: int = 0
    foreground_bytes: int = 0
    zero_bytes: int = 0
    skipped_bytes: int = 0
    resent_bytes: int = 0


class Totals(BaseModel):
    """Sums and extremes, for reports. What a run that died had not stored yet is missing from them: seconds' worth."""

    background_bytes: int = 0
    """Content sent, before compression."""
    foreground_bytes: int = 0
    zero_bytes: int = 0
    skipped_bytes: int = 0
    """Found equal at the destination."""
    resent_bytes: int = 0
    """Sent once more, for a lost connection or a damaged piece."""
    peak_wire_rate: float = 0.0
    epoch_bytes: int = 0
    largest_epoch_bytes: int = 0
    epoch_seconds: float = 0.0
    longest_epoch_seconds: float = 0.0
    slowed_seconds: float = 0.0
    """Write backpressure: how long, what it took from the VM by what it wrote before, and the lowest limit."""
    slowed_bytes: float = 0.0
    lowest_write_limit: int | None = None
    held_back_seconds: float = 0.0
    """Replication backpressure: how long the latency budget kept the background below what it could do."""
    link_lost_seconds: float = 0.0
    seen: Seen = Seen()
