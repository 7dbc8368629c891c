//! The composition root: adapters, coordinator and storage node put together into something that runs.

mod coordinator;
mod files;
mod listen;
mod logging;
mod metric_table;
mod metrics;
mod runtime;
mod signal;
mod span_fields;
mod stop;
mod storage_node;
mod stores;
mod world;

pub use coordinator::{Addresses, CoordinatorListeners, CoordinatorProcess, ListenFlags};
pub use listen::{Wish, address, bind};
pub use metric_table::{METRICS, Metric, MetricKind, table};
pub use metrics::{collect_metrics, serve_metrics};
pub use runtime::run;
pub use signal::StopSignal;
pub use stop::stop_in_time;
pub use storage_node::{Door, Known, Namesakes, StorageNode, World as NodeWorld};
pub use stores::{ChosenMetadata, Stores, open_metadata, open_stores};
