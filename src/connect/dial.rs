//! The side that dials.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::again::Again;
use super::connected::{Connected, part};
use super::extra::{dial_all, prepare_dialler};
use super::nearby;
use super::terms::Terms;
use super::waiting::{Stop, unless_stopped};
use super::whereabouts::Whereabouts;
use crate::auth::handshake::DiallerMethod;
use crate::auth::methods::{ByKey, ByTicket};
use crate::auth::{ByCertificate, ByCode, Certified, Code, Fingerprint, Ticket};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::session::{Retry, handshake, transport_failure};
use crate::transport::address::HostPort;
use crate::transport::{Network, TransportError};

/// Time limit of a listener for the greeting, once it has completed the handshake.
const GREETING_TIME_MAX: Duration = Duration::from_secs(10);

/// The peer to dial.
#[derive(Debug, Clone)]
pub enum Destination {
    /// The side that made this ticket.
    Ticket(Ticket),
    /// The machine that has this key, at one of these addresses.
    Machine(Vec<HostPort>, Fingerprint),
    /// The side that made this code, on the local network or at this host.
    Code(Code, Option<HostPort>),
    /// A machine with a certificate for the expected name, at one of these addresses.
    Certified(Vec<HostPort>, Arc<Certified>),
}

/// Dials `destination`. The listener has not welcomed a dialling sender by the time this returns.
///
/// # Errors
///
/// The peer was not reached, or refused this side.
pub async fn dial<N: Network>(
    destination: &Destination,
    terms: &Terms<N>,
    stop: &mut Stop,
) -> Result<Connected<N>, Failure> {
    match destination {
        Destination::Ticket(Ticket { addresses, fingerprint, secret }) => {
            let method = ByTicket { listener: *fingerprint, secret: secret.clone() };
            dial_known(&Whereabouts::at(addresses), &method, ticket_failure, terms, stop).await
        }
        Destination::Machine(hosts, fingerprint) => {
            let place = unless_stopped(stop, Whereabouts::of(&terms.network, hosts)).await?;
            dial_known(&place, &ByKey { listener: *fingerprint }, transport_failure, terms, stop).await
        }
        Destination::Certified(hosts, certified) => {
            let place = unless_stopped(stop, Whereabouts::of(&terms.network, hosts)).await?;
            let method = ByCertificate(Arc::clone(certified));
            dial_known(&place, &method, transport_failure, terms, stop).await
        }
        Destination::Code(code, host) => {
            let searching = async {
                match host {
                    Some(host) => Whereabouts::of(&terms.network, std::slice::from_ref(host)).await,
                    None => nearby::find(code.number()).await.map(|found| Whereabouts::at(&found)),
                }
            };
            let place = unless_stopped(stop, searching).await?;
            dial_known(&place, &ByCode(code.clone()), transport_failure, terms, stop).await
        }
    }
}

/// Dials the peer at `place`, for authentication by `method`. `failure` turns a transport error into a
/// failure.
pub(super) async fn dial_known<N: Network>(
    place: &Whereabouts,
    method: &dyn DiallerMethod,
    failure: impl Fn(TransportError) -> Failure,
    terms: &Terms<N>,
    stop: &mut Stop,
) -> Result<Connected<N>, Failure> {
    let Terms { role, connections, network, limits, retry, .. } = terms;
    let dialling = async { network.dial(&place.addresses, method.listener(), limits).await.map_err(failure) };
    // If stopped during this, there is no connection yet that the peer must be told about.
    let (connection, endpoint) = unless_stopped(stop, dialling).await?;
    let (current, in_use) = watch::channel(endpoint.clone());
    let greeting = timeout(limits.idle_timeout.min(GREETING_TIME_MAX), async {
        let mut link = handshake::dial(connection.clone(), *role, method, *connections).await?;
        let joiner = prepare_dialler(&mut link, terms);
        let mut joining = JoinSet::new();
        if *retry != Retry::Off {
            let made_with = (network.clone(), *limits);
            joining.spawn(Again::new(&link, place, joiner.clone(), made_with, current)?.run());
        }
        dial_all(&link, &joiner, terms, &mut joining)?;
        if role.side() == Side::Receiver {
            link.welcome().await?;
        }
        Ok((link, joining))
    });
    let greeting = async {
        greeting.await.unwrap_or_else(|_| {
            Err(Failure::new(Reason::AckTimeout, "the peer accepted the connection and then sent nothing"))
        })
    };
    match unless_stopped(stop, greeting).await {
        Ok((link, joining)) => {
            Ok(Connected { link, endpoint: in_use, answering: None, joining, is_shared: false, ssh: None })
        }
        Err(failure) => Err(part(&connection, &endpoint, failure).await),
    }
}

/// The failure when the side that made a ticket was not reached.
fn ticket_failure(error: TransportError) -> Failure {
    let is_nobody_there = matches!(error, TransportError::NobodyThere(_));
    let mut failure = transport_failure(error);
    if is_nobody_there {
        failure.message += ": the side that printed this ticket has ended; a ticket serves one transfer, so start \
                            that side again and use the new ticket";
    }
    failure
}
