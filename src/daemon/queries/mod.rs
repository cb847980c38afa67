//! Read-only queries of clients: pages of tokens, metrics, the dashboard, single tokens.
//!
//! Owns the queries that are waiting. Reads the daemon through a [`View`], and changes nothing.

mod cluster;
mod cluster_view;
mod dashboard;
mod digest;
mod events;
mod list;
mod metrics;
mod name_filter;
mod scan;
mod top_k;
mod views;

pub(crate) use self::cluster::cluster_detail;
pub(crate) use self::cluster_view::ClusterView;
pub(crate) use self::dashboard::DashboardQuery;
pub(crate) use self::digest::{Disclosure, token_summary};
pub(crate) use self::events::scan_events;
pub(crate) use self::list::ListQuery;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::list::check_filter;
pub(crate) use self::metrics::MetricsQuery;
pub(crate) use self::scan::{Query, ScanQueue};
pub(crate) use self::views::View;
