//! Logs and metrics.

use std::fmt;

use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// sled reports what it copes with as errors.
const DEFAULT_FILTER: &str = "info,sled=off";

/// Sends logs to standard error: with priorities and without times where
/// journald reads them, with times otherwise. `filter` is `LEVEL`, or a list
/// of `MODULE=LEVEL`.
pub fn log_to_stderr(filter: Option<&str>) {
    let filter = filter.unwrap_or(DEFAULT_FILTER).parse().unwrap_or_else(|_| Targets::new());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let all = tracing_subscriber::registry().with(filter);
    // A second call (in tests) leaves the first in place.
    let _ = if is_read_by_journald() {
        all.with(lines.event_format(Journal)).try_init()
    } else {
        all.with(lines.with_target(false).with_ansi(false)).try_init()
    };
    log_panics();
}

/// systemd says which stream the journal reads; a service's child, or one whose
/// standard error goes elsewhere, inherits the variable all the same.
#[must_use]
pub fn is_read_by_journald() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}

/// sled panics on some damaged files; that is caught, but it is to be seen.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("without a message");
        error!(thread, place, text, "a thread panicked");
    }));
}

/// A line as journald reads it: `<priority>` in front, no time of our own. Each
/// further line of an event has it too, and is set off: what came from outside
/// cannot look like a line of its own.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let mut margin = "";
        for line in text.split(['\n', '\r']) {
            writeln!(writer, "<{priority}>{margin}{line}")?;
            margin = "  ";
        }
        Ok(())
    }
}
