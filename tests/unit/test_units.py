"""What an administrator writes is understood exactly, or refused with an example of what would be right."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.errors import InputError
from drover.model.units import format_duration, format_size, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 512 << 20), ("4G", 4 << 30), ("4GB", 4 * 10**9), ("65536", 65536), ("0.5 KiB", 512), ("1t", 1 << 40)],
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "rate"),
    [("200mbit", 25_000_000), ("1gbit", 125_000_000), ("25MB/s", 25_000_000), ("1MiB", 1 << 20), ("8bit", 1)],
)
def test_rates_are_bytes_per_second(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(("text", "seconds"), [("40ms", 0.04), ("30s", 30), ("5m", 300), ("2h", 7200), ("7", 7)])
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["12xyz", "", "mbit", "-1mbit", "1e3", "10", "0mbit", "nan", "200 mbit s", "٣mbit"])
def test_a_rate_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_rate(text)
    assert refused.value.remedy is not None


@given(st.text(max_size=12))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_size, parse_rate, parse_duration):
        try:
            assert parse(text) >= 0
        except InputError as refused:
            assert refused.remedy


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_size_in_bytes_is_itself(size: int) -> None:
    assert parse_size(str(size)) == pytest.approx(size, rel=1e-15)


@given(st.floats(min_value=0, max_value=1e15))
def test_every_size_and_time_can_be_shown(number: float) -> None:
    assert format_size(number)
    assert format_duration(number)


@pytest.mark.parametrize("parse", [parse_size, parse_rate, parse_duration])
def test_a_number_of_hundreds_of_digits_is_refused(parse: Callable[[str], float]) -> None:
    with pytest.raises(InputError, match="is not a"):
        parse("9" * 400 + ("s" if parse is parse_duration else "MB"))
