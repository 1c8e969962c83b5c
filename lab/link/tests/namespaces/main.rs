//! The program between two real network namespaces. Needs root and `ip`.

mod fixture;

use fixture::Fixture;
use serde_json::json;

#[test]
fn an_open_link_answers_and_counts() {
    let link = Fixture::new("open");
    let ping = link.ping(5, 0.05);
    assert_eq!(ping.received, 5);
    assert!(ping.average_ms < 25.0, "{ping:?}");
    let state = link.get();
    assert!(state["left_to_right"]["counters"]["packets"].as_u64() >= Some(5));
    assert!(state["right_to_left"]["counters"]["bytes"].as_u64() >= Some(5 * 36));
}

#[test]
fn the_delay_is_added_in_each_direction() {
    let link = Fixture::new("delay");
    link.set(&json!({ "delay": 0.025 }));
    let ping = link.ping(10, 0.05);
    assert_eq!(ping.received, 10);
    assert!((50.0..65.0).contains(&ping.average_ms), "{ping:?}");
}

#[test]
fn jitter_spreads_the_delay() {
    let link = Fixture::new("jitter");
    link.set(&json!({ "delay": 0.01, "jitter": 0.02 }));
    let ping = link.ping(60, 0.01);
    assert_eq!(ping.received, 60);
    // Twice 10 ms and twice 0 to 20 ms; pings close to each other may not overtake.
    assert!((32.0..70.0).contains(&ping.average_ms), "{ping:?}");
    assert!(ping.spread_ms > 4.0, "{ping:?}");
}

#[test]
fn the_rate_limits_a_flow() {
    let link = Fixture::new("rate");
    for rate in [10e6, 50e6, 300e6] {
        link.set(&json!({ "rate": rate, "delay": 0.002 }));
        let measured = link.flow(3.0);
        // TCP's payload is 96.5 % of its packets, which begin slowly and end with what is queued.
        assert!(
            (rate * 0.85..rate).contains(&measured),
            "{measured} at {rate}"
        );
    }
}

#[test]
fn loss_hits_its_share_of_packets() {
    let link = Fixture::new("loss");
    link.set_one("left_to_right", &json!({ "loss": 0.2 }));
    let ping = link.ping(500, 0.002);
    assert!((360..440).contains(&ping.received), "{ping:?}");
    let dropped = link.get()["left_to_right"]["counters"]["dropped"]["loss"].as_u64();
    assert!(dropped >= Some(u64::from(500 - ping.received)));
    assert!(link.flow(1.0) > 1e5, "TCP goes on in spite of it");
}

#[test]
fn a_cut_drops_all_and_healing_lets_the_same_flow_go_on() {
    let link = Fixture::new("cut");
    link.set(&json!({ "rate": 20e6 }));
    let flow = link.start_flow(4.0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    link.set(&json!({ "cut": true }));
    assert_eq!(link.ping(3, 0.05).received, 0);
    let before = link.get()["left_to_right"]["counters"]["bytes"].as_u64();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(
        link.get()["left_to_right"]["counters"]["bytes"].as_u64(),
        before
    );
    link.set(&json!({ "cut": false }));
    assert_eq!(link.ping(3, 0.05).received, 3);
    let measured = flow.finish();
    assert!((2e6..20e6).contains(&measured), "{measured}");
    assert!(link.get()["left_to_right"]["counters"]["dropped"]["cut"].as_u64() > Some(0));
}

#[test]
fn offload_carries_a_gigabit() {
    let link = Fixture::new("fast");
    // This machine may be busy with something else: the best of three counts.
    let measured = (0..3).map(|_| link.flow(1.0)).fold(0.0, f64::max);
    assert!(measured > 1e9, "{measured} bits/s");
}

#[test]
fn nonsense_is_refused_with_words_and_changes_nothing() {
    let link = Fixture::new("words");
    let before = link.get()["left_to_right"]["settings"].clone();
    for (line, words) in [
        (r#"{"set":{"delay":-1}}"#, "delay is -1"),
        (r#"{"set":{"bandwidth":1}}"#, "unknown field"),
        (r#"{"set":{},"get":{}}"#, "either"),
        (
            r#"{"set":{"cut":true},"direction":"up"}"#,
            "unknown variant",
        ),
        ("nonsense", "expected"),
    ] {
        let answer = link.ask(line);
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(words), "{line}: {answer}");
    }
    assert_eq!(link.get()["left_to_right"]["settings"], before);
}

#[test]
fn sigterm_takes_the_devices_away() {
    let mut link = Fixture::new("end");
    assert!(link.has_devices());
    assert!(link.terminate().success());
    assert!(!link.has_devices());
    assert!(!link.control_exists());
}
