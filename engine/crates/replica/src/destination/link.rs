//! Listens, checks who calls, starts and replaces sessions.

use super::door::{Door, Visitor};
use super::session::Session;
use super::{Destination, Shared, lock};
use drover_link::handshake::Caller;
use drover_link::tls::Identity;
use drover_link::{LinkError, RefuseCode, socket};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How a destination is reached.
#[derive(Debug, Clone)]
pub struct DestinationLink {
    /// `host:port`; port 0 = any.
    pub listen: String,
    /// Certificates of the destination.
    pub identity: Identity,
    /// Fencing token of the migration.
    pub token: u64,
}

/// The accept loop; it ends when this is dropped.
pub(super) struct Listening {
    listen: String,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Destination {
    /// Listens (again). Returns the address with the real port. An address that is listened on
    /// already is kept; certificates and token are always the new ones.
    pub async fn put_link(&self, link: DestinationLink) -> Result<SocketAddr, LinkError> {
        let shared = &self.shared;
        let refused = |(code, message): (RefuseCode, String)| LinkError::Refused { code, message };
        shared.tokens.admit(link.token).map_err(refused)?;
        let before = lock(&shared.link).take();
        let same = before
            .as_ref()
            .filter(|before| before.listen == link.listen)
            .map(|before| before.address);
        let wanted = same.map_or_else(|| link.listen.clone(), |address| address.to_string());
        if let Some(before) = before {
            before.task.abort();
            // The port is free only when the loop is gone.
            let mut before = before;
            let _ = (&mut before.task).await;
        }
        let listener = TcpListener::bind(&wanted)
            .await
            .map_err(LinkError::io("listening for the source"))?;
        socket::expect_crowds(&listener).map_err(LinkError::io("listening for the source"))?;
        let address = listener
            .local_addr()
            .map_err(LinkError::io("listening for the source"))?;
        let task = tokio::spawn(accept_all(shared.clone(), listener, link.identity));
        *lock(&shared.link) = Some(Listening {
            listen: link.listen,
            address,
            task,
        });
        lock(&shared.link_state).listening();
        tracing::info!(%address, token = link.token, "listening");
        Ok(address)
    }
}

async fn accept_all(shared: Arc<Shared>, listener: TcpListener, identity: Identity) {
    let door = Arc::new(Door::default());
    loop {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                door.complain(format_args!("accepting a connection failed: {error}"));
                // Out of file descriptors, most likely; a stranger's is the first to go.
                door.send_one_away();
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let visitor = door.enter();
        let (shared, identity, door) = (shared.clone(), identity.clone(), door.clone());
        tokio::spawn(async move {
            if let Err(error) = shared.meet(tcp, &identity, visitor).await {
                door.complain(format_args!("caller {peer} was not let in: {error}"));
            }
        });
    }
}

impl Shared {
    async fn meet(
        self: &Arc<Self>,
        tcp: TcpStream,
        identity: &Identity,
        visitor: Visitor,
    ) -> Result<(), LinkError> {
        let receive = Caller::receive(tcp, identity, self.traffic.clone(), || visitor.greeted());
        let caller = visitor.unless_sent_away(receive).await?;
        // Whoever is here has the migration's certificate, and is not sent away for others.
        drop(visitor);
        let refusal = match caller.hello.session {
            0 => self.admit_first(&caller).await,
            number => self.admit_another(number, &caller),
        };
        match refusal {
            Ok(session) => {
                let number = caller.hello.connection;
                let connection = caller.welcome(session.number).await?;
                session.join(number, connection);
                Ok(())
            }
            Err((code, message)) => {
                caller.refuse(code, &message).await;
                Err(LinkError::Refused { code, message })
            }
        }
    }

    /// A new session replaces the older one, whose writes are over before the new one is answered.
    async fn admit_first(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> Result<Arc<Session>, (RefuseCode, String)> {
        let hello = &caller.hello;
        if hello.connection != 0 {
            return Err((
                RefuseCode::Malformed,
                "the first connection must have number 0".into(),
            ));
        }
        let _turn = self.turnover.lock().await;
        self.tokens.admit(hello.token)?;
        self.end_session("a new one begins").await;
        let number = rand::random_range(1..=u64::MAX);
        let shared = self.clone();
        let ended = move |number, reason: String| shared.session_ended(number, &reason);
        let session = Session::start(self, number, hello.token, ended);
        let malformed = |why| (RefuseCode::Malformed, why);
        session.admit(0).map_err(malformed)?;
        *lock(&self.session) = Some(session.clone());
        lock(&self.link_state).up();
        tracing::info!(
            session = number,
            token = hello.token,
            software = hello.software,
            "session begins"
        );
        Ok(session)
    }

    fn admit_another(
        &self,
        number: u64,
        caller: &Caller,
    ) -> Result<Arc<Session>, (RefuseCode, String)> {
        let session = lock(&self.session).clone();
        match session {
            Some(session) if session.number == number && session.token == caller.hello.token => {
                let admitted = session.admit(caller.hello.connection);
                admitted.map_err(|why| (RefuseCode::Malformed, why))?;
                Ok(session)
            }
            _ => Err((
                RefuseCode::UnknownSession,
                "there is no such session (any more)".into(),
            )),
        }
    }

    fn session_ended(&self, number: u64, reason: &str) {
        tracing::info!(session = number, "session ended: {reason}");
        let mut current = lock(&self.session);
        if current
            .as_ref()
            .is_some_and(|session| session.number == number)
        {
            *current = None;
            lock(&self.link_state).down(reason);
        }
    }
}
