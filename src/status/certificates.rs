//! Gauges of certificates.

use std::time::SystemTime;

use super::Status;

/// Appends them: a name, a help text, and values by labels.
pub(super) fn write_gauges(
    status: &Status,
    gauge: &mut impl FnMut(&str, &str, Vec<(String, f64)>),
) {
    let label = |name: &str, value: &str| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{{{name}=\"{value}\"}}")
    };
    #[expect(clippy::cast_precision_loss, reason = "a gauge is good to 15 digits")]
    let seconds = |at: SystemTime| {
        at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as f64
    };
    let path = |path: &std::path::Path| label("path", &path.display().to_string());
    let ends = status.certificates.iter().filter_map(|one| {
        let end = seconds(one.not_after?);
        Some((path(&one.path), end))
    });
    gauge(
        "ngsi_ferry_certificate_expiry_seconds",
        "End of a certificate, Unix time",
        ends.collect(),
    );
    let problems = status.certificates.iter().map(|one| {
        let value = if one.concern.is_some() { 1.0 } else { 0.0 };
        (path(&one.path), value)
    });
    gauge("ngsi_ferry_certificate_problem", "Whether a certificate needs care", problems.collect());
    if !status.client_certificates.is_empty() {
        let clients = status.client_certificates.iter();
        let ends = clients.map(|one| (label("client", &one.client), seconds(one.not_after)));
        gauge(
            "ngsi_ferry_client_certificate_expiry_seconds",
            "End of the certificate that a client showed last, Unix time",
            ends.collect(),
        );
    }
    let set = if status.clock_unset.is_some() { 0.0 } else { 1.0 };
    gauge(
        "ngsi_ferry_clock_set",
        "Whether the system's clock says a time that can be",
        vec![(String::new(), set)],
    );
}
