//! Encodes metrics as `OpenMetrics`, or in the Prometheus text format for older scrapers. The metrics
//! themselves are in `daemon::metrics`, `daemon::queries::metrics` and `process_metrics`.

use std::fmt;

use axum::http::{HeaderMap, header};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

/// Format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    OpenMetrics,
    Prometheus,
}

impl MetricsFormat {
    /// Selects the format by the `Accept` header. The default is the Prometheus text format.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).into_iter();
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        if accepted.any(|value| value.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Writes the metrics of all `registries` as one exposition.
    pub(super) fn write(self, registries: &[Registry]) -> Result<String, fmt::Error> {
        let mut text = String::new();
        registries.iter().try_for_each(|registry| encode_registry(&mut text, registry))?;
        encode_eof(&mut text)?;
        Ok(match self {
            Self::OpenMetrics => text,
            Self::Prometheus => prometheus_text(&text),
        })
    }
}

/// Converts `OpenMetrics` to the Prometheus text format, which has no units and no end marker, and
/// declares a counter with its `_total` suffix.
fn prometheus_text(text: &str) -> String {
    let mut prometheus_text = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        else {
            prometheus_text += line;
            prometheus_text.push('\n');
            continue;
        };
        let kind = lines.next_if(|next| next.starts_with("# TYPE ")).unwrap_or_default();
        let (name, kind) = match kind.rsplit(' ').next() {
            Some("counter") => (format!("{name}_total"), "counter"),
            Some("info") => (format!("{name}_info"), "gauge"),
            Some(kind) if !kind.is_empty() => (name.to_owned(), kind),
            Some(_) | None => (name.to_owned(), "untyped"),
        };
        prometheus_text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }
    prometheus_text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Unit;

    use super::*;

    #[test]
    fn the_prometheus_format_has_no_units_and_no_end_marker() {
        let mut registry = Registry::with_prefix("t");
        registry.register("checks", "Checks", Counter::<u64>::default());
        registry.register_with_unit("life", "Life", Unit::Seconds, Gauge::<i64>::default());
        registry.register("build", "Build", Info::new([("version", "1")]));
        let text = MetricsFormat::Prometheus.write(&[registry]).unwrap();
        assert_eq!(
            text,
            "# HELP t_checks_total Checks.\n# TYPE t_checks_total counter\nt_checks_total 0\n\
             # HELP t_life_seconds Life.\n# TYPE t_life_seconds gauge\nt_life_seconds 0\n\
             # HELP t_build_info Build.\n# TYPE t_build_info gauge\nt_build_info{version=\"1\"} 1\n"
        );
    }

    #[test]
    fn clients_that_accept_openmetrics_get_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(MetricsFormat::negotiate(&headers), MetricsFormat::Prometheus);
        let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1,*/*;q=0.1";
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        assert_eq!(MetricsFormat::negotiate(&headers), MetricsFormat::OpenMetrics);
    }
}
