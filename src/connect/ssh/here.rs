//! The side that starts ssh. It dials.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::blame;
use super::install::{Install, Program};
use super::introduction::{Listening, ListeningSide, Unheard, datagrams, dialling_side};
use super::program::{Remote, SshProgram};
use crate::auth::methods::ByTicket;
use crate::connect::connected::Connected;
use crate::connect::dial::dial_known;
use crate::connect::terms::Terms;
use crate::connect::waiting::{Stop, unless_stopped};
use crate::connect::whereabouts::Whereabouts;
use crate::event::{Event, Reporter};
use crate::protocol::failure::{Failure, Reason};
use crate::session::{Retry, transport_failure};
use crate::transport::address::{DEFAULT_PORT, HostPort};
use crate::transport::quic::endpoint::QuicNetwork;
use crate::transport::{BytePipe, Limits, Network};

/// How long UDP may take to answer. Where it does, the first answer comes after a round trip.
const UDP_TIME_MAX: Duration = Duration::from_secs(3);
/// What a side is called that has no address.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Starts towline on the machine `remote` and dials it. The listener has not welcomed a dialling sender by the time this
/// returns.
///
/// # Errors
///
/// ssh, towline there, or the connection fails.
pub async fn dial_by_ssh(
    remote: &Remote,
    terms: &Terms<QuicNetwork>,
    reporter: &dyn Reporter,
    stop: &mut Stop,
) -> Result<Connected<QuicNetwork>, Failure> {
    let program = tokio::task::spawn_blocking(Program::of_this_process).await;
    let mut program = program.map_err(io::Error::other).and_then(|opened| opened).map_err(|error| {
        Failure::new(Reason::Setup, format!("cannot read the program of this process: {error}"))
    })?;
    let ssh = SshProgram::start(remote, &program.dir())?;
    // A person may be typing a password, so there is no limit.
    let introducing = async { Ok(introduce(&ssh, terms).await) };
    let mut introduced = unless_stopped(stop, introducing).await?;
    if let Err(Unheard::Absent(found)) = &introduced {
        may_copy(remote, found, &program)?;
        let (host, place) = (remote.host.clone(), program.place());
        reporter.report(Event::Installing { host, place, bytes: program.bytes });
        let copying = async {
            Ok(match program.send_through(ssh.pipe()).await {
                Ok(()) => introduce(&ssh, terms).await,
                Err(unheard) => Err(unheard),
            })
        };
        introduced = unless_stopped(stop, copying).await?;
    }
    let other = match introduced {
        Ok(other) => other,
        Err(unheard) => return Err(blame::failure(&remote.host, &unheard, &ssh.end().await)),
    };
    let ListeningSide { fingerprint, secret, addresses } = other;
    let searching = async { Ok(all_addresses(remote, addresses, &terms.network).await) };
    let place = unless_stopped(stop, searching).await?;
    let method = ByTicket { listener: fingerprint.head(), secret };
    let limits = Limits { connect_timeout: UDP_TIME_MAX.min(terms.limits.connect_timeout), ..terms.limits };
    let by_udp = Terms { limits, ..terms.clone() };
    let connected = match dial_known(&place, &method, transport_failure, &by_udp, stop).await {
        Err(failure) if is_of_the_way(&failure) => {
            reporter.report(Event::Warning {
                path: None,
                reason: None,
                message: detour(remote, &place.addresses),
            });
            let through =
                unless_stopped(stop, async { Ok(through(&ssh, &place.addresses, terms).await) }).await?;
            let terms = match through {
                Ok(terms) => terms,
                Err(unheard) => return Err(blame::failure(&remote.host, &unheard, &ssh.end().await)),
            };
            dial_known(&place, &method, transport_failure, &terms, stop).await?
        }
        connected => connected?,
    };
    Ok(Connected { ssh: Some(ssh), ..connected })
}

/// The same terms for a connection through the pipes of `ssh`. When that one is lost, there is no other.
async fn through(
    ssh: &SshProgram,
    addresses: &[SocketAddr],
    terms: &Terms<QuicNetwork>,
) -> Result<Terms<QuicNetwork>, Unheard> {
    ssh.pipe().write_all(&datagrams()).await?;
    Listening::to(ssh.pipe()).datagrams().await?;
    let peer = addresses.first().copied().unwrap_or(NOWHERE);
    Ok(piped(terms, Arc::clone(ssh.pipe()), peer))
}

/// `terms` for a connection through `pipe` with the side called `peer`.
pub(super) fn piped(terms: &Terms<QuicNetwork>, pipe: Arc<BytePipe>, peer: SocketAddr) -> Terms<QuicNetwork> {
    // What holds when no other connection can take over.
    let limits = Limits { idle_timeout: terms.limits.idle_timeout * 2, ..terms.limits };
    let network = terms.network.through(pipe, peer);
    Terms { network, limits, connections: Some(1), retry: Retry::Off, ..terms.clone() }
}

/// The other side was not reached, or another machine has answered.
fn is_of_the_way(failure: &Failure) -> bool {
    let reasons = [Reason::Unreachable, Reason::NotAuthenticated, Reason::Incompatible];
    reasons.contains(&failure.reason) && !failure.from_peer
}

fn detour(remote: &Remote, addresses: &[SocketAddr]) -> String {
    let host = &remote.host;
    let port = addresses.first().map_or(DEFAULT_PORT, SocketAddr::port);
    format!(
        "UDP port {port} of {host} does not answer, so the data goes through ssh. A firewall that lets this port in, or those of \
         --port-range A-B, makes the transfer faster on long or lossy paths, and lets it survive a lost connection"
    )
}

/// Whether a copy of `program` may go to a machine where there is `found`.
fn may_copy(remote: &Remote, found: &str, program: &Program) -> Result<(), Failure> {
    let (host, absent) = (&remote.host, blame::absent(found));
    let system = found.split('/').next().unwrap_or_default();
    let what = match remote.install {
        _ if !Program::runs_on(system) => {
            format!("a copy of this one does not run on {system}, so install the same version there")
        }
        Install::Yes => return Ok(()),
        Install::Never => "install it there, or leave out --no-install".to_owned(),
        Install::Unsaid => {
            format!("run the same command with --yes to copy this one there, to {}", program.place())
        }
    };
    Err(Failure::advising(Reason::Incompatible, format!("{host}: {absent}; {what}")))
}

async fn introduce(ssh: &SshProgram, terms: &Terms<QuicNetwork>) -> Result<ListeningSide, Unheard> {
    let other = Listening::to(ssh.pipe()).listening_side().await?;
    ssh.pipe().write_all(&dialling_side(terms.network.fingerprint())).await?;
    Ok(other)
}

/// Where the other side may be: at the addresses of its name, or where it says.
async fn all_addresses<N: Network>(remote: &Remote, said: Vec<SocketAddr>, network: &N) -> Whereabouts {
    let host = remote.configured_host().await.unwrap_or_else(|| remote.host.clone());
    let mut place = Whereabouts::default();
    if let Some(port) = said.first().map(SocketAddr::port) {
        // Only ssh may know the name.
        place = Whereabouts::of(network, &[HostPort { host, port }]).await.unwrap_or_default();
    }
    for address in said {
        if !place.addresses.contains(&address) {
            place.addresses.push(address);
        }
    }
    place
}
