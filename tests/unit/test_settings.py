"""Settings as texts: the same words on the command line and in a plan, kept as they were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drover.cli import options
from drover.errors import InputError
from drover.model.latency import LatencyBudget
from drover.model.migration import Cutover, OnReadError, Spec
from drover.model.settings import COMPRESSIONS, Settings

WRONG = {
    "cutover": ("warp", "'warp' is not a cutover mode", "restart"),
    "max_downtime": ("0s", "no time at all", "1ms"),
    "target_time": ("-4", "'-4' is not a duration", "30s"),
    "shutdown_timeout": ("x", "'x' is not a duration", "30s"),
    "bandwidth": ("0mbit", "is zero", "no limit"),
    "max_latency": ("20%", "is not a latency budget", "+20%"),
    "write_floor": ("3", "is not a rate", "mbit"),
    "on_read_error": ("cry", "'cry' is not", "zero"),
    "connections": (1000, "not possible", "1 to 64"),
    "compression": ("rar", "'rar' is not a compression", "zstd"),
}


def texts() -> st.SearchStrategy[dict[str, object]]:
    number = st.integers(1, 10**6).map(str) | st.floats(0.001, 1e4).map(lambda value: f"{value:.3f}")
    duration = st.builds("{}{}".format, number.filter(lambda text: float(text) > 0), st.sampled_from(["s", "m", ""]))
    rate = st.builds("{}{}".format, st.integers(1, 10**6), st.sampled_from(["mbit", "MB/s", "KiB", "B"]))
    return st.fixed_dictionaries(
        {},
        optional={
            "cutover": st.sampled_from([str(mode) for mode in Cutover]),
            "max_downtime": duration,
            "bandwidth": rate,
            "max_latency": st.sampled_from(["+20%", "+5ms", "+7%,+12.5ms", "off"]),
            "write_backpressure": st.booleans(),
            "on_read_error": st.sampled_from([str(answer) for answer in OnReadError]),
            "connections": st.integers(1, 64),
            "compression": st.sampled_from(COMPRESSIONS),
            "destination_address": st.sampled_from(["10.0.0.1", "::1"]),
            "rest_by_network": st.booleans(),
        },
    )


@given(texts())
def test_what_was_given_is_kept_as_written_and_makes_a_specification(fields: dict[str, object]) -> None:
    said = Settings.model_validate(fields)
    assert said.model_dump(mode="json", exclude_none=True) == fields
    values = said.given()
    # Who gives a limit means that of all hours.
    assert values.pop("bandwidth_schedule", ()) == ()
    assert values.keys() == fields.keys()
    spec = Spec.model_validate({"vm": "web", "source": "a", "destination": "b", **values})
    assert {name: getattr(spec, name) for name in values} == values


def test_texts_become_seconds_and_bytes_a_second() -> None:
    said = Settings.model_validate(
        {"max_downtime": "1m", "target_time": 90, "bandwidth": "200mbit", "max_latency": "+5ms", "connections": "4"}
    ).given()
    assert said == {
        "max_downtime": 60.0,
        "target_time": 90.0,
        "bandwidth": 25_000_000,
        "bandwidth_schedule": (),
        "max_latency": LatencyBudget(seconds=0.005),
        "connections": 4,
    }


@pytest.mark.parametrize("field", WRONG)
def test_wrong_ones_are_refused_in_the_same_words_wherever_they_stand(field: str) -> None:
    value, wrong, right = WRONG[field]
    with pytest.raises(InputError) as on_line:
        options.settings(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValidationError) as in_plan:
        Settings.model_validate({field: value})
    assert on_line.value.message == f"--{field.replace('_', '-')}: {in_plan.value.errors()[0]['msg']}"
    assert wrong in on_line.value.message
    assert right in str(on_line.value.remedy)


@pytest.mark.parametrize(
    "fields", [{"max_downtime": True}, {"bandwidth": 200}, {"connections": True}, {"speed": "1"}, {"cutover": 3},
               {"write_backpressure": "perhaps"}, {"bandwidth": "9" * 400 + "B"}, {"max_downtime": ["1s"]}]
)  # fmt: skip
def test_what_is_no_setting_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(fields)


def test_nothing_given_changes_nothing() -> None:
    assert options.settings(max_downtime=None, write_backpressure=None) == {}
    assert options.settings(write_backpressure=False, max_latency="off") == {
        "write_backpressure": False,
        "max_latency": LatencyBudget(),
    }
