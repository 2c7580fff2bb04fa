//! Guesses at the codes of a waiting side.

use std::net::SocketAddr;

use super::*;
use crate::auth::Code;
use crate::transport::address::HostPort;

/// Hands on the codes that a listener tells of, and its address.
struct Codes(mpsc::UnboundedSender<(Code, SocketAddr)>);

impl Reporter for Codes {
    fn take(&self, report: Report) {
        if let Event::Listening(listening) = report.event {
            let code = listening.code.unwrap().parse().unwrap();
            self.0.send((code, listening.addresses[0])).unwrap();
        }
    }
}

/// A thousand with `TOWLINE_TEST_LONG=1`.
#[tokio::test(start_paused = true)]
async fn attack_11_a_program_that_guesses_burns_each_code_and_gets_in_by_none() {
    let guesses = if std::env::var_os("TOWLINE_TEST_LONG").is_some() { 1000 } else { 50 };
    let network = network();
    let (tell, mut codes) = mpsc::unbounded_channel();
    let here = network.seen_by(LISTENER);
    let terms = terms(Role::Receive, &here, None, Retry::Off);
    let listening = tokio::spawn(async move {
        let invitation = Invitation {
            address: ListenAddress::Any,
            allowed: Vec::new(),
            code_words: Some(2),
            expires: None,
            certified: None,
            wait: None,
            what: Vec::new(),
        };
        let (_never, mut stop) = watch::channel(None);
        listen(invitation, &terms, &Codes(tell), &mut stop).await
    });
    let (mut current, address) = codes.recv().await.unwrap();
    network.names("there", Duration::ZERO, address);
    let host = "there".parse().unwrap();
    for _ in 0..guesses {
        let wrong = current.renewed();
        if wrong == current {
            continue;
        }
        assert_eq!(reason(guess(&network, &wrong, &host).await), Some(Reason::NotAuthenticated));
        // The right one comes too late.
        assert_eq!(reason(guess(&network, &current, &host).await), Some(Reason::NotAuthenticated));
        let (fresh, _) = codes.recv().await.unwrap();
        assert!(fresh != current && fresh.number() == current.number());
        current = fresh;
    }
    assert!(guess(&network, &current, &host).await.is_ok());
    assert!(listening.await.unwrap().is_ok());
}

/// A sender that dials with `code` and waits until it is let in.
async fn guess(network: &MemoryNetwork, code: &Code, host: &HostPort) -> Met {
    let (_never, mut stop) = watch::channel(None);
    let terms = terms(Role::Send, network, None, Retry::Off);
    let mut connected = dial(&Destination::Code(code.clone(), Some(host.clone())), &terms, &mut stop).await?;
    connected.link.welcome().await?;
    Ok(connected)
}
