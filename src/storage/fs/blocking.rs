//! Runs disk calls on threads that may wait. A call that waits for a disk, or never returns, blocks no thread of the
//! network.

use std::panic;

use tokio::task::spawn_blocking;

/// Runs `work` on a blocking thread; a panic in it continues here.
pub(in crate::storage) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // A simulated disk belongs to its thread.
    #[cfg(test)]
    if super::sys::disk::is_simulated() {
        return work();
    }
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // The runtime is shutting down; nothing waits for the value any more.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::current;

    use super::*;

    /// Two calls hang, and there is only one network thread. Tasks woken before the calls, and other calls, continue.
    #[test]
    fn calls_that_hang_hold_up_nobody() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mut let_go = Vec::new();
        let mut hanging = Vec::new();
        let (begins, begun) = mpsc::channel();
        for _ in 0..2 {
            let (sender, held) = mpsc::channel::<()>();
            let_go.push(sender);
            let begins = begins.clone();
            hanging.push(runtime.spawn(async move {
                // A thread that waited here would keep the task it woke last.
                let woken = tokio::spawn(async move { begins.send(()).unwrap() });
                let here = current().id();
                let (there, _) = blocking(move || (current().id(), held.recv())).await;
                woken.await.unwrap();
                assert_ne!(there, here);
            }));
        }
        for _ in 0..2 {
            begun.recv_timeout(std::time::Duration::from_secs(10)).expect("what a call woke waits for it");
        }
        assert_eq!(runtime.block_on(runtime.spawn(blocking(|| 7))).unwrap(), 7);
        drop(let_go);
        for call in hanging {
            runtime.block_on(call).unwrap();
        }
    }

    #[tokio::test]
    #[should_panic(expected = "as it is")]
    async fn a_panic_goes_on_where_the_call_was_asked_for() {
        blocking(|| panic!("as it is")).await
    }
}
