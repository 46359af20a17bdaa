//! For a person, or for a program.

use crate::checks::Check;
use crate::summary::Summary;

pub fn json(summary: &Summary, checks: &[Check]) -> anyhow::Result<()> {
    let report = serde_json::json!({ "summary": summary, "checks": checks });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

pub fn table(summary: &Summary, checks: &[Check]) {
    let mut rows = vec![
        [
            "target",
            "conns",
            "rate/s",
            "p50 µs",
            "p99 µs",
            "CPU µs each",
            "client CPU µs",
            "client busy",
            "idle MiB",
            "RSS MiB",
            "peak MiB",
            "B written each",
            "written/payload",
            "device B each",
            "device/payload",
            "errors",
        ]
        .map(String::from)
        .to_vec(),
    ];
    for phase in &summary.medians {
        rows.push(vec![
            phase.target.clone(),
            phase.connections.to_string(),
            format!("{:.0}", phase.rate),
            format!("{:.0}", phase.p50_us),
            format!("{:.0}", phase.p99_us),
            format!("{:.1}", phase.cpu_us),
            format!("{:.1}", phase.client_cpu_us),
            format!("{:.0} %", phase.client_busy * 100.0),
            format!("{:.1}", phase.idle_rss_mib),
            format!("{:.1}", phase.rss_mib),
            format!("{:.1}", phase.peak_rss_mib),
            optional(phase.written_each, 0),
            optional(phase.written_per_payload(), 2),
            optional(phase.device_each, 0),
            optional(phase.device_per_payload(), 2),
            phase.errors.values().sum::<u64>().to_string(),
        ]);
    }
    print(&rows);

    if !summary.ratios.is_empty() {
        let mut rows = vec![
            ["target", "conns", "rate/bare", "rate/file", "CPU/bare", "p50/file", "device/file"]
                .map(String::from)
                .to_vec(),
        ];
        for ratio in &summary.ratios {
            rows.push(vec![
                ratio.target.clone(),
                ratio.connections.to_string(),
                optional(ratio.rate_of_bare, 2),
                optional(ratio.rate_of_file, 2),
                optional(ratio.cpu_of_bare, 2),
                optional(ratio.p50_of_file, 2),
                optional(ratio.device_of_file, 2),
            ]);
        }
        println!();
        print(&rows);
    }

    for phase in &summary.medians {
        for (what, count) in &phase.errors {
            println!("\n{}, {} connections: {count} × {what}", phase.target, phase.connections);
        }
    }

    if !checks.is_empty() {
        println!();
    }
    for check in checks {
        let verdict = if check.passed { "ok    " } else { "FAILED" };
        let measured = check.measured.map_or("not measured".into(), |value| format!("{value:.2}"));
        println!("{verdict} {}: {measured} ({})", check.what, check.limit);
    }
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

/// Names to the left, figures to the right, each column as wide as it must be.
fn print(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        println!("{}", cells.collect::<Vec<_>>().join("  "));
    }
}
