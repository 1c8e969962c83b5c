//! The engine behind the API: nothing, a source, or a destination.

use crate::problem::Problem;
use crate::samples::{MOST_SAMPLES, Place, Samples};
use device::DeviceId;
use drover_replica::carrier::{DeviceStatus, Verification, hex};
use drover_replica::destination::Destination;
use drover_replica::sample::SampleStatus;
use drover_replica::source::Source;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the engine is.
pub enum Role {
    /// It reads VDISKs and sends them.
    Source(Source),
    /// It receives VDISKs and writes them.
    Destination(Destination),
}

/// State of the process, shared by all requests.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    state: PathBuf,
    began: Instant,
    /// Set by the first PUT of a link, and final.
    role: OnceLock<Role>,
    /// Transport devices that are being verified, or were.
    verifications: Mutex<HashMap<DeviceId, Verification>>,
    samples: Samples,
    stopping: CancellationToken,
}

impl Engine {
    /// An engine without a role.
    pub fn new(state: PathBuf) -> Self {
        let (began, role, stopping) = (Instant::now(), OnceLock::new(), CancellationToken::new());
        Engine {
            shared: Arc::new(Shared {
                state,
                began,
                role,
                verifications: Mutex::default(),
                samples: Samples::default(),
                stopping,
            }),
        }
    }

    /// What it is, if that was said already.
    pub fn role(&self) -> Option<&Role> {
        self.shared.role.get()
    }

    /// As a source; it becomes one if it has no role yet.
    pub fn become_source(&self) -> Result<&Source, Problem> {
        match self
            .shared
            .role
            .get_or_init(|| Role::Source(Source::new(&self.shared.state)))
        {
            Role::Source(source) => Ok(source),
            Role::Destination(_) => Err(wrong_role("destination")),
        }
    }

    /// As a destination; it becomes one if it has no role yet.
    pub fn become_destination(&self) -> Result<&Destination, Problem> {
        if self.role().is_none() {
            let destination = Destination::new(&self.shared.state).map_err(|error| {
                Problem::internal(
                    "state_error",
                    format!("reading the state folder failed: {error}"),
                )
            })?;
            // Of two requests at once one wins; both then use the same role.
            let _ = self.shared.role.set(Role::Destination(destination));
        }
        self.destination()
    }

    /// The source; a problem if the engine is none.
    pub fn source(&self) -> Result<&Source, Problem> {
        match self.role() {
            Some(Role::Source(source)) => Ok(source),
            Some(Role::Destination(_)) => Err(wrong_role("destination")),
            None => Err(no_role()),
        }
    }

    /// The destination; a problem if the engine is none.
    pub fn destination(&self) -> Result<&Destination, Problem> {
        match self.role() {
            Some(Role::Destination(destination)) => Ok(destination),
            Some(Role::Source(_)) => Err(wrong_role("source")),
            None => Err(no_role()),
        }
    }

    /// Either; a problem if the engine has no role yet.
    pub fn any_role(&self) -> Result<&Role, Problem> {
        self.role().ok_or_else(no_role)
    }

    fn verifications(&self) -> MutexGuard<'_, HashMap<DeviceId, Verification>> {
        let verifications = self.shared.verifications.lock();
        verifications.unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a verification of a device; an older one of it ends.
    pub fn verify(&self, device: DeviceId, verification: Verification) {
        self.verifications().insert(device, verification);
    }

    /// Ends the verification of a device. False if there is none.
    pub fn end_verification(&self, device: DeviceId) -> bool {
        self.verifications().remove(&device).is_some()
    }

    /// Every transport device that this engine has to do with, by its id.
    pub fn devices(&self) -> BTreeMap<String, DeviceStatus> {
        let verifications = self.verifications();
        let verified = verifications
            .iter()
            .map(|(id, verification)| (hex(&id.0), verification.status()));
        let mut devices: BTreeMap<_, _> = verified.collect();
        match self.role() {
            Some(Role::Source(source)) => devices.extend(source.devices()),
            Some(Role::Destination(destination)) => devices.extend(destination.devices()),
            None => {}
        }
        devices
    }

    /// A place for a sample that is about to begin.
    pub fn reserve_sample(&self) -> Result<Place, Problem> {
        self.shared.samples.reserve().ok_or_else(|| {
            Problem::conflict(
                "too_many_samples",
                format!("this engine keeps {MOST_SAMPLES} samples at most; DELETE some first"),
            )
        })
    }

    /// How a sample is doing, if there is one of this number.
    pub fn sample(&self, number: u64) -> Option<SampleStatus> {
        self.shared.samples.status(number)
    }

    /// Ends a sample and forgets it. False if there is none.
    pub fn end_sample(&self, number: u64) -> bool {
        self.shared.samples.end(number)
    }

    /// Seconds since the start.
    pub fn uptime(&self) -> f64 {
        self.shared.began.elapsed().as_secs_f64()
    }

    /// Cancelled when the engine is to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }

    /// Ends the link; at a destination everything that had arrived is stable afterwards.
    pub async fn stop_replication(&self) {
        match self.role() {
            Some(Role::Source(source)) => source.stop(),
            Some(Role::Destination(destination)) => destination.stop().await,
            None => {}
        }
    }
}

fn wrong_role(role: &str) -> Problem {
    Problem::conflict(
        "wrong_role",
        format!("this engine is a {role}; start another one for the other role"),
    )
}

fn no_role() -> Problem {
    Problem::conflict("no_role", "this engine has no role yet; PUT /v1/link first")
}
