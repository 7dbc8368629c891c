//! An orderly stop, within its time.

use std::future::Future;
use std::time::Duration;

use super::super::exit::Failure;
use super::StopSignal;

/// Runs `stop` for at most `longest`; another signal ends the process at once.
pub async fn stop_in_time(
    signal: StopSignal,
    longest: Duration,
    stop: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let in_time = signal.or_at_once(tokio::time::timeout(longest, stop)).await;
    in_time.unwrap_or_else(|_| {
        Err(Failure::local(format!(
            "not stopped within {}",
            humantime::format_duration(longest)
        ))
        .hint("server.shutdown_timeout gives it longer; nothing that was acknowledged is lost"))
    })
}
