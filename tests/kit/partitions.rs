//! A token space that is cut into few partitions, so that owners change in a second, in a build that is not optimised.

use std::path::Path;

use pairdb::adapters::sqlite::{SqliteSettings, SqliteStores};
use pairdb::placement::{Epoch, Topology};
use pairdb::ports::{Change, MetadataStore};
use tokio::runtime::Builder;

const PARTITIONS: u32 = 64;

/// Makes the file of a metadata store, with a topology of no nodes.
pub fn few_partitions(file: &Path) {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let stores = SqliteStores::open(file, SqliteSettings::default()).await;
        let stores = stores.expect("a file");
        let topology = Topology::new(Epoch(1), PARTITIONS, Vec::new()).expect("a topology");
        let replaced = stores.metadata.replace_topology(Epoch(0), topology).await;
        assert!(matches!(replaced, Ok(Change::Made(_))), "{replaced:?}");
        stores.close().await;
    });
}
