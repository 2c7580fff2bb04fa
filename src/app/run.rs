//! One run of the program: threads, signals, a command, an ending.

use std::io;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::settings::{Command, Ending};
use super::{bench, id, partial, peers, receipt, receive, send, stay};
use crate::event::{Asker, Event, Reporter};
use crate::node::host::{Threads, threads};
use crate::node::signals::{self, Hangup, Signals};
use crate::protocol::failure::{Failure, Reason};
use crate::storage::fs::NetworkThreads;

/// Who is told, and who is asked.
type People = (Arc<dyn Reporter>, Option<Arc<dyn Asker>>);

/// Runs a command to its end, and returns the exit code that `tell` returns. `tell` reports how the run ended and may
/// wait for readers. Signals are still watched during that; its second argument returns the exit code for a signal
/// that has come.
pub fn run(
    command: Command,
    reporter: Arc<dyn Reporter>,
    asker: Option<Arc<dyn Asker>>,
    tell: impl FnOnce(Ending, &dyn Fn() -> Option<u8>) -> u8,
) -> u8 {
    match runtime() {
        Ok((runtime, network)) => {
            let exit_code = run_on(&runtime, network, command, (reporter, asker), tell);
            // A disk that hangs must not keep the process alive after its last message.
            runtime.shutdown_background();
            exit_code
        }
        Err(error) => tell(cannot("start threads", &error), &|| None),
    }
}

fn run_on(
    runtime: &Runtime,
    network: NetworkThreads,
    command: Command,
    people: People,
    tell: impl FnOnce(Ending, &dyn Fn() -> Option<u8>) -> u8,
) -> u8 {
    let on_hangup = if matches!(command, Command::Stay(_)) { Hangup::Reload } else { Hangup::Stop };
    match runtime.block_on(async { signals::watch(on_hangup) }) {
        Ok((signals, stop)) => {
            let ending = runtime.block_on(run_to_end(command, people, network, &signals, stop));
            tell(ending, &|| signals.exit_code())
        }
        Err(error) => tell(cannot("watch signals", &error), &|| None),
    }
}

fn cannot(what: &str, error: &io::Error) -> Ending {
    Ending::failed(Failure::new(Reason::Internal, format!("cannot {what}: {error}")))
}

fn runtime() -> io::Result<(Runtime, NetworkThreads)> {
    let Threads { workers, disk_max } = threads();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).max_blocking_threads(disk_max).enable_all();
    Ok((builder.build()?, NetworkThreads::new(workers)))
}

async fn run_to_end(
    command: Command,
    people: People,
    network: NetworkThreads,
    signals: &Signals,
    stop: watch::Receiver<Option<Failure>>,
) -> Ending {
    // As a task, because the main thread would be woken by another thread each time. A panic then ends the task only,
    // and the process can still clear its bars.
    let ending = match tokio::spawn(dispatch(command, people, network, stop)).await {
        Ok(Ok(exit_code)) => Ending { exit_code, failure: None },
        Ok(Err(failure)) => Ending::failed(failure),
        Err(_) => {
            let message = "towline stopped because of a bug; the lines above show where";
            Ending::failed(Failure::new(Reason::Internal, message))
        }
    };
    match (signals.exit_code(), ending.exit_code) {
        // A transfer that was complete before the signal could stop it is complete.
        (Some(exit_code), code) if code != 0 => Ending { exit_code, ..ending },
        _ => ending,
    }
}

async fn dispatch(
    command: Command,
    people: People,
    network: NetworkThreads,
    stop: watch::Receiver<Option<Failure>>,
) -> Result<u8, Failure> {
    let (reporter, asker) = people;
    match command {
        Command::Send(settings) => send::run(settings, reporter, asker, network, stop).await,
        Command::Receive(settings) => receive::run(settings, reporter, asker, network, stop).await,
        Command::Stay(settings) => stay::run(settings, reporter, network, stop).await,
        Command::Bench(settings) => bench::run(settings, reporter, network, stop).await,
        Command::Id(settings) => id::run(&settings, reporter.as_ref()),
        Command::Peers(settings) => peers::run(&settings, reporter.as_ref()),
        Command::Config(settings) => {
            settings.settings.into_iter().for_each(|setting| reporter.report(Event::Setting(setting)));
            Ok(0)
        }
        Command::Receipt(settings) => {
            let look = move || receipt::run(&settings, reporter.as_ref());
            let looked = tokio::task::spawn_blocking(look).await;
            looked.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?
        }
        Command::Partial(settings) => {
            let look = move || partial::run(&settings, reporter.as_ref());
            let looked = tokio::task::spawn_blocking(look).await;
            looked.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?
        }
    }
}
