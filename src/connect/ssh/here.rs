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
use crate::event::{Asker, Event, Question, Reporter};
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
    asker: Option<&dyn Asker>,
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
        let place = program.place();
        let allowing = may_copy(remote, found, &place, program.bytes, asker);
        unless_stopped(stop, allowing).await?;
        let host = remote.host.clone();
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

/// Whether a copy of this program, of so many `bytes`, may go to `place` on a machine where there is `found`. A person at
/// the terminal is asked.
async fn may_copy(
    remote: &Remote,
    found: &str,
    place: &str,
    bytes: u64,
    asker: Option<&dyn Asker>,
) -> Result<(), Failure> {
    let (host, absent) = (&remote.host, blame::absent(found));
    let system = found.split('/').next().unwrap_or_default();
    let what = match remote.install {
        _ if !Program::runs_on(system) => {
            format!("a copy of this one does not run on {system}, so install the same version there")
        }
        Install::Yes => return Ok(()),
        Install::Never => "install it there, or leave out --no-install".to_owned(),
        Install::Unsaid => match asker {
            Some(asker) => {
                let (host, place) = (host.clone(), place.to_owned());
                if asker.ask(Question::Install { host, absent: absent.clone(), place, bytes }).await
                    == Ok(true)
                {
                    return Ok(());
                }
                "install it there".to_owned()
            }
            None => format!("run the same command with --yes to copy this one there, to {place}"),
        },
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::oneshot;

    use super::*;

    /// Gives one answer, and keeps the questions.
    struct Person(bool, Mutex<Vec<Question>>);

    impl Asker for Person {
        fn ask(&self, question: Question) -> oneshot::Receiver<bool> {
            self.1.lock().unwrap().push(question);
            let (tell, answer) = oneshot::channel();
            tell.send(self.0).unwrap();
            answer
        }
    }

    /// What is said to `install` where there is `found`, and how often a person who gives `answer` was asked.
    async fn allowed(install: Install, found: &str, answer: Option<bool>) -> (Result<(), String>, usize) {
        let (destination, host) = ("me@there".to_owned(), "there".to_owned());
        let remote = Remote { ssh: Vec::new(), destination, host, args: Vec::new(), install };
        let person = Person(answer.unwrap_or_default(), Mutex::default());
        let asker = answer.map(|_| &person as &dyn Asker);
        let allowed = may_copy(&remote, found, "~/.cache/t", 7, asker).await;
        let asked = person.1.into_inner().unwrap();
        for question in &asked {
            let Question::Install { host, place, bytes, .. } = question else { panic!("{question:?}") };
            assert_eq!((host.as_str(), place.as_str(), *bytes), ("there", "~/.cache/t", 7));
        }
        (allowed.map_err(|failure| failure.message), asked.len())
    }

    #[tokio::test]
    async fn a_person_is_asked_once_before_the_program_is_copied_and_nobody_else_decides() {
        let own = format!("Linux {}/", std::env::consts::ARCH);
        assert_eq!(allowed(Install::Unsaid, &own, Some(true)).await, (Ok(()), 1));
        let (refused, asked) = allowed(Install::Unsaid, &own, Some(false)).await;
        assert_eq!(
            (refused.unwrap_err().as_str(), asked),
            ("there: there is no towline; install it there", 1)
        );
        let (refused, _) = allowed(Install::Unsaid, &own, None).await;
        assert!(refused.unwrap_err().contains("--yes"));
        assert_eq!(allowed(Install::Yes, &own, Some(false)).await, (Ok(()), 0));
        for (install, found) in [(Install::Never, own.as_str()), (Install::Yes, "Plan9 mips/")] {
            let (refused, asked) = allowed(install, found, Some(true)).await;
            assert_eq!((refused.is_err(), asked), (true, 0));
        }
    }
}
