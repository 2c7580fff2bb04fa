//! What `-v`, `-vv` and `-vvv` show, on standard error and never through a bar.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::ui::{LogWriter, Ui};

/// Starts logging for the rest of the process.
pub(super) fn start(ui: &Ui) {
    let options = ui.options();
    let filter = filter(options.verbose, options.quiet || options.json);
    // Only a test can have set a subscriber before; keep it.
    let _ = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(ui.colors())
        .with_writer(LogLines(ui.log_writer()))
        .finish()
        .with(filter)
        .try_init();
}

fn filter(verbose: u8, quiet: bool) -> Targets {
    let level = match (verbose, quiet) {
        (0, true) => LevelFilter::ERROR,
        (0, false) => LevelFilter::WARN,
        (1, _) => LevelFilter::INFO,
        (2, _) => LevelFilter::DEBUG,
        (3.., _) => return Targets::new().with_default(LevelFilter::TRACE),
    };
    Targets::new().with_target("towline", level)
}

struct LogLines(LogWriter);

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogWriter;
    fn make_writer(&'a self) -> LogWriter {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_speak_only_at_the_third() {
        for (verbose, own, quinn) in [
            (0, Level::WARN, None),
            (1, Level::INFO, None),
            (2, Level::DEBUG, None),
            (3, Level::TRACE, Some(Level::TRACE)),
        ] {
            let filter = filter(verbose, false);
            assert!(filter.would_enable("towline::session", &own), "{verbose}");
            assert_eq!(filter.would_enable("quinn_proto", &Level::TRACE), quinn.is_some(), "{verbose}");
            assert_eq!(filter.would_enable("quinn_proto", &Level::ERROR), quinn.is_some(), "{verbose}");
        }
        assert!(!filter(0, true).would_enable("towline", &Level::WARN));
        assert!(!filter(1, false).would_enable("towline", &Level::DEBUG));
    }
}
