"""The cutover gate predicts from what it knows and says what would open it."""

from hypothesis import given
from hypothesis import strategies as st

from drover.model.migration import Cutover
from drover.replicator.gate import Outlook, choose, downtime, explain, percentile

outlooks = st.builds(
    Outlook,
    dirty=st.integers(0, 1 << 40),
    rate=st.floats(1, 1e10),
    unverified=st.integers(0, 1 << 42),
    verify_rate=st.floats(1, 1e10),
    memory=st.integers(1 << 20, 1 << 40),
    link_rate=st.floats(1, 1e10),
)
modes = st.sampled_from([Cutover.RESUME, Cutover.RESTART, Cutover.MANUAL])


@given(outlooks, modes, st.integers(1, 1 << 40))
def test_more_writes_never_shorten_the_downtime(outlook: Outlook, mode: Cutover, more: int) -> None:
    busier = Outlook(**{**vars(outlook), "dirty": outlook.dirty + more})
    assert downtime(mode, busier) >= downtime(mode, outlook)


@given(outlooks, st.floats(0.001, 1e6))
def test_auto_takes_a_way_that_fits_if_there_is_one(outlook: Outlook, limit: float) -> None:
    mode, predicted = choose(Cutover.AUTO, outlook, limit)
    assert mode in (Cutover.RESUME, Cutover.RESTART)
    assert predicted == downtime(mode, outlook)
    fits = [downtime(candidate, outlook) <= limit for candidate in (Cutover.RESUME, Cutover.RESTART)]
    assert (predicted <= limit) == any(fits)


@given(outlooks, modes, st.floats(0.001, 1e6))
def test_the_rate_that_would_open_the_gate_does(outlook: Outlook, mode: Cutover, limit: float) -> None:
    words = explain(downtime(mode, outlook), limit, outlook, mode=mode, backpressure=False)
    assert "holding" in words
    fixed = downtime(mode, outlook) - outlook.dirty / outlook.rate
    if fixed >= limit:
        assert "--max-downtime" in words
    else:
        needed = outlook.dirty / (limit - fixed)
        assert outlook.dirty == 0 or fixed + outlook.dirty / needed <= limit * 1.001


@given(st.lists(st.integers(0, 100)), st.floats(0, 1))
def test_the_percentile_is_one_of_the_values(values: list[int], share: float) -> None:
    assert percentile(values, share) in (values or [0])
