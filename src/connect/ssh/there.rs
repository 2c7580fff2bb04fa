//! The side that ssh has started. It listens, and ends with the pipes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::here::{NOWHERE, piped};
use super::introduction::{Listening, ListeningSide, Unheard, datagrams};
use crate::auth::Secret;
use crate::auth::methods::Introduced;
use crate::connect::connected::{Connected, GOODBYE};
use crate::connect::extra::Sockets;
use crate::connect::listen::{first_link, further, seated};
use crate::connect::slot::OneSlot;
use crate::connect::terms::Terms;
use crate::connect::waiting::{Stop, unless_stopped};
use crate::node::listener::Listener;
use crate::protocol::failure::{Failure, Reason};
use crate::session::handshake::Slot;
use crate::session::{close_reason, transport_failure};
use crate::transport::quic::connection::Quic;
use crate::transport::quic::endpoint::{QuicEndpoint, QuicNetwork};
use crate::transport::{BytePipe, Endpoint, ListenAddress, Network};

/// What sshd tells of the connection: addresses and ports of both ends.
const CONNECTION_VARIABLE: &str = "SSH_CONNECTION";
/// Time from the end of the pipes until a transfer ends. One that is complete ends by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Introduces this side over standard input and output, listens at `address`, and waits for the other side. Also returns
/// the `stop` for what follows, which has a failure when the pipes have ended, too.
///
/// # Errors
///
/// The other side has gone, or this one cannot listen.
pub async fn introduced(
    address: ListenAddress,
    terms: &Terms<QuicNetwork>,
    stop: &mut Stop,
) -> Result<(Connected<QuicNetwork>, Stop), Failure> {
    let broken = |error| failure(&Unheard::Pipe(error));
    let pipe = Arc::new(BytePipe::standard().map_err(broken)?);
    let setup = |error: crate::transport::TransportError| Failure::new(Reason::Setup, error.to_string());
    let endpoint = terms.network.listen(&address, &terms.limits).map_err(setup)?;
    let secret = Secret::generate();
    let own = ListeningSide {
        fingerprint: terms.network.fingerprint(),
        secret: secret.clone(),
        addresses: to_name(endpoint.local_addresses().map_err(transport_failure)?, reached_at()),
    };
    let mut listening = Listening::to(&pipe);
    let introducing = async {
        pipe.write_all(&own.to_bytes()).await.map_err(broken)?;
        listening.dialling_side().await.map_err(|unheard| failure(&unheard))
    };
    let dialler = unless_stopped(stop, introducing).await?;
    let bound = endpoint.local_address().map_err(transport_failure)?;
    let introduced = Introduced { dialler, secret };
    let slot = slot(introduced.clone(), terms, further(&address, bound.ip()));
    let mut listener = listener(&endpoint, terms, &slot);
    let waiting = async {
        tokio::select! {
            biased;
            link = first_link(&endpoint, &mut listener) => link.map(Some),
            only_datagrams = listening.datagrams() => {
                only_datagrams.map(|()| None).map_err(|unheard| failure(&unheard))
            }
        }
    };
    match unless_stopped(stop, waiting).await {
        Ok(Some(link)) => {
            let mut connected = seated(link, endpoint, listener, &slot).await?;
            let (ended, stopped) = watch::channel(None);
            connected.joining.spawn(end_with(pipe, stop.clone(), ended));
            Ok((connected, stopped))
        }
        Ok(None) => {
            drop((listener, endpoint));
            let connected = through(pipe, introduced, terms, stop).await?;
            Ok((connected, stop.clone()))
        }
        Err(failure) => {
            drop(listener);
            endpoint.close(failure.reason.code(), &close_reason(&failure));
            endpoint.wait_idle(GOODBYE).await;
            Err(failure)
        }
    }
}

/// The connection through `pipe`, whose end is that of the connection.
async fn through(
    pipe: Arc<BytePipe>,
    introduced: Introduced,
    terms: &Terms<QuicNetwork>,
    stop: &mut Stop,
) -> Result<Connected<QuicNetwork>, Failure> {
    pipe.write_all(&datagrams()).await.map_err(|error| failure(&Unheard::Pipe(error)))?;
    let terms = piped(terms, pipe, NOWHERE);
    let endpoint = terms.network.listen(&ListenAddress::Any, &terms.limits).map_err(transport_failure)?;
    let slot = slot(introduced, &terms, ListenAddress::Any);
    let mut listener = listener(&endpoint, &terms, &slot);
    let link = unless_stopped(stop, first_link(&endpoint, &mut listener)).await?;
    seated(link, endpoint, listener, &slot).await
}

fn slot(
    introduced: Introduced,
    terms: &Terms<QuicNetwork>,
    further: ListenAddress,
) -> Arc<OneSlot<QuicNetwork>> {
    let (authorizer, taken) = (Box::new(introduced), AtomicBool::new(false));
    Arc::new(OneSlot { authorizer, taken, sockets: Sockets::new(terms.clone(), further) })
}

fn listener(
    endpoint: &QuicEndpoint,
    terms: &Terms<QuicNetwork>,
    slot: &Arc<OneSlot<QuicNetwork>>,
) -> Listener<Quic> {
    let slots = vec![Arc::clone(slot) as Arc<dyn Slot>];
    Listener::new(endpoint.clone(), terms.role, slots)
}

/// Tells `ended` when `pipe` has ended, or this process is asked to stop.
async fn end_with(pipe: Arc<BytePipe>, mut stop: Stop, ended: watch::Sender<Option<Failure>>) {
    let pipe_ends = async {
        Listening::to(&pipe).end().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        stopped = stop.wait_for(Option::is_some) => {
            let stopped = stopped.ok().and_then(|failure| failure.clone());
            ended.send_replace(stopped);
        }
        () = pipe_ends => {
            let failure = Failure::new(Reason::Interrupted, "the connection of ssh has ended");
            ended.send_replace(Some(failure));
        }
    }
    // Nobody takes a sender that is gone for a failure.
    ended.closed().await;
}

fn failure(unheard: &Unheard) -> Failure {
    let reason = match unheard {
        Unheard::Ended => Reason::Interrupted,
        Unheard::Pipe(_) => Reason::Setup,
        _ => Reason::Protocol,
    };
    Failure::new(reason, format!("the side that has started this one: {unheard}"))
}

/// The address of this machine that the other side's ssh has reached.
fn reached_at() -> Option<IpAddr> {
    std::env::var(CONNECTION_VARIABLE).ok()?.split_whitespace().nth(2)?.parse().ok()
}

/// That address first, if the endpoint listens on all; loopback only if that was it.
fn to_name(own: Vec<SocketAddr>, reached: Option<IpAddr>) -> Vec<SocketAddr> {
    let Some((ip, port)) = reached.zip(own.first().map(SocketAddr::port)) else { return own };
    let first = SocketAddr::new(ip.to_canonical(), port);
    let rest = own.into_iter().filter(|at| *at != first && (!at.ip().is_loopback() || ip.is_loopback()));
    std::iter::once(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_ssh_has_reached_comes_first() {
        let named = |own: &[&str], reached: &str| -> Vec<String> {
            let own = own.iter().map(|at| at.parse().unwrap()).collect();
            to_name(own, reached.parse().ok()).iter().map(ToString::to_string).collect()
        };
        let own = ["10.0.0.5:4750", "[2001:db8::5]:4750", "127.0.0.1:4750"];
        assert_eq!(named(&own, "2001:db8::5"), ["[2001:db8::5]:4750", "10.0.0.5:4750"]);
        assert_eq!(named(&own, "203.0.113.9"), ["203.0.113.9:4750", "10.0.0.5:4750", "[2001:db8::5]:4750"]);
        assert_eq!(named(&own, "127.0.0.1")[0], "127.0.0.1:4750");
        assert_eq!(named(&own, "nonsense"), own);
    }
}
