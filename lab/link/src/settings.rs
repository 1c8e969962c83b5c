//! What can be set of one direction, checked.

use serde::{Deserialize, Deserializer, Serialize};

/// Shortest default queue in bytes.
const MINIMUM_QUEUE: u64 = 64 << 10;
/// A default queue holds what the link carries in this time, in seconds.
const QUEUE_SECONDS: f64 = 0.05;
/// Bounds of what can be set.
const RATES: std::ops::RangeInclusive<f64> = 1e3..=1e12;
const SECONDS: std::ops::RangeInclusive<f64> = 0.0..=60.0;
const QUEUES: std::ops::RangeInclusive<u64> = 1500..=1 << 30;

/// Below this rate in bits/s, packets come one by one: a 64 KiB packet would block the link too long.
const OFFLOAD_RATE: f64 = 100e6;

/// One direction of the link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Bits/s of IP packets; none = as fast as possible.
    pub rate: Option<f64>,
    /// Seconds.
    pub delay: f64,
    /// Each packet gets up to so many seconds more, evenly distributed.
    pub jitter: f64,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Nothing passes.
    pub cut: bool,
    /// Jitter may let packets overtake each other.
    pub reorder: bool,
    /// Bytes that may wait for the rate; none = 50 ms of the rate, at least 64 KiB.
    pub queue: Option<u64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            rate: None,
            delay: 0.0,
            jitter: 0.0,
            loss: 0.0,
            cut: false,
            reorder: false,
            queue: None,
        }
    }
}

impl Settings {
    /// Bytes that may wait for the rate.
    pub fn queue_limit(&self) -> u64 {
        let default = |rate: f64| MINIMUM_QUEUE.max((rate / 8.0 * QUEUE_SECONDS) as u64);
        self.queue
            .unwrap_or_else(|| self.rate.map_or(u64::MAX, default))
    }

    /// Whether the kernel may hand over TCP packets of many segments at once.
    ///
    /// Not with loss or reordering, which are drawn for each segment, and not on slow links.
    pub fn offload(&self) -> bool {
        self.loss == 0.0 && !self.reorder && self.rate.is_none_or(|rate| rate >= OFFLOAD_RATE)
    }
}

/// A wish to change some of the [`Settings`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    #[serde(default, deserialize_with = "present")]
    rate: Option<Option<f64>>,
    delay: Option<f64>,
    jitter: Option<f64>,
    loss: Option<f64>,
    cut: Option<bool>,
    reorder: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    queue: Option<Option<u64>>,
}

/// Tells a field that is null from one that is missing.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Change {
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if let Some(Some(rate)) = self
            .rate
            .filter(|rate| rate.is_some_and(|rate| !RATES.contains(&rate)))
        {
            return Err(format!("rate is {rate}; set null or 1e3 to 1e12 bits/s"));
        }
        for (name, value) in [("delay", self.delay), ("jitter", self.jitter)] {
            if let Some(value) = value.filter(|value| !SECONDS.contains(value)) {
                return Err(format!("{name} is {value}; set 0 to 60 seconds"));
            }
        }
        if let Some(loss) = self.loss.filter(|loss| !(0.0..=1.0).contains(loss)) {
            return Err(format!("loss is {loss}; set a probability from 0 to 1"));
        }
        if let Some(Some(queue)) = self
            .queue
            .filter(|queue| queue.is_some_and(|queue| !QUEUES.contains(&queue)))
        {
            return Err(format!(
                "queue is {queue}; set null or 1500 to 1073741824 bytes"
            ));
        }
        Ok(())
    }

    /// It must have passed [`Change::check`].
    pub fn apply(&self, settings: &mut Settings) {
        let Settings {
            rate,
            delay,
            jitter,
            loss,
            cut,
            reorder,
            queue,
        } = settings;
        *rate = self.rate.unwrap_or(*rate);
        *delay = self.delay.unwrap_or(*delay);
        *jitter = self.jitter.unwrap_or(*jitter);
        *loss = self.loss.unwrap_or(*loss);
        *cut = self.cut.unwrap_or(*cut);
        *reorder = self.reorder.unwrap_or(*reorder);
        *queue = self.queue.unwrap_or(*queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> Result<Settings, String> {
        let change: Change = serde_json::from_str(text).map_err(|error| error.to_string())?;
        change.check()?;
        let mut settings = Settings {
            rate: Some(1e6),
            ..Settings::default()
        };
        change.apply(&mut settings);
        Ok(settings)
    }

    #[test]
    fn null_takes_the_rate_away_and_silence_keeps_it() {
        assert_eq!(change(r#"{"rate":null}"#).unwrap().rate, None);
        assert_eq!(change(r#"{"cut":true}"#).unwrap().rate, Some(1e6));
    }

    #[test]
    fn nonsense_is_refused_with_words() {
        for (text, words) in [
            (r#"{"rate":0}"#, "rate is 0"),
            (r#"{"delay":-1}"#, "delay is -1"),
            (r#"{"jitter":1e9}"#, "jitter is 1000000000"),
            (r#"{"loss":1.5}"#, "loss is 1.5"),
            (r#"{"queue":1}"#, "queue is 1"),
            (r#"{"speed":1}"#, "unknown field `speed`"),
            (r#"{"cut":"yes"}"#, "invalid type"),
        ] {
            let error = change(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_default_queue_follows_the_rate() {
        assert_eq!(change("{}").unwrap().queue_limit(), 65536);
        assert_eq!(change(r#"{"rate":1e9}"#).unwrap().queue_limit(), 6_250_000);
        assert_eq!(change(r#"{"queue":3000}"#).unwrap().queue_limit(), 3000);
    }
}
