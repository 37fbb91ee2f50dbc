//! What this crate's own tests and benches use of its insides. No promise holds for any of it: it changes with every
//! release, and is here only with the feature `unstable`.

/// Changing tables.
pub mod dml {
    pub use crate::dml::keys::declared::DeclaredKeys;
    pub use crate::dml::opaque::Opaque;
    pub use crate::dml::write::check::Conditions;
    pub use crate::dml::{SupertableProvider, TableAccess};

    /// Compaction by sessions.
    pub mod compact {
        pub use crate::dml::compact::{
            GroupOutcome, Optimized, Request, Scope, optimize, optimize_as, prepare,
        };
    }
}

/// The bytes of objects.
pub mod format {
    pub use crate::format::paths;
    pub use crate::format::{
        AbsentKeys, ColumnStats, ContentHash, FooterChecksum, Head, InPlace, MovedRange, OpKind,
        Pointer, RowMoves, Sidecar, StatValue, StateDoc, SuperfileId, SuperfileStats, WalId,
        WalState,
    };

    /// The list of superfiles of a version.
    pub mod manifest {
        pub use crate::format::manifest::{
            Manifest, ManifestEdit, ManifestHeader, ManifestLoader, RowIds, SuperfileEntry,
            TableMetadata, UniqueKey, check_successor,
        };
    }
}

/// The decoders that read what others wrote, each as a function of bytes.
pub mod fuzzing {
    pub use crate::fuzzing::{TARGETS, Target};
}

/// Reading tables.
pub mod scan {
    pub use crate::scan::schema::session_schema;
    pub use crate::scan::{Pin, ROW_ID};
}

/// Registration.
pub mod sql {
    pub use crate::sql::location::resolve;
    pub use crate::sql::{CreateOptions, create_table, open_table};

    use arrow::datatypes::Schema;
    use datafusion::catalog::Session;

    use crate::dml::SupertableProvider;
    use crate::{Result, SupertableCatalog};

    /// The table that has a name in a catalog.
    ///
    /// # Errors
    /// Those of the lookup.
    pub async fn table_of(
        catalog: &SupertableCatalog,
        schema: &str,
        name: &str,
    ) -> Result<Option<SupertableProvider>> {
        catalog.table(schema, name).await
    }

    /// Creates a table with a name in a catalog.
    ///
    /// # Errors
    /// Those of `CREATE TABLE`.
    pub async fn create_in(
        catalog: &SupertableCatalog,
        session: &dyn Session,
        (schema, name): (&str, &str),
        columns: &Schema,
        options: CreateOptions,
    ) -> Result<SupertableProvider> {
        catalog
            .create_table(session, schema, name, columns, options)
            .await
    }
}

/// Compare-and-swap on object stores.
pub mod storage {
    pub use crate::storage::conformance;
    pub use crate::storage::{
        CasOutcome, LocalStore, ObjectVersion, RetryPolicy, Storage, StorageError,
    };
}

/// Versions and commits.
pub mod table {
    pub use crate::table::{
        Background, Cache, CommitOutcome, CreateTable, Effect, Limits, Moment, Mutation, NewKey,
        RowCounts, Snapshot, Table, VacuumOptions, is_dropped_table, sweep,
    };

    /// Which superfiles to write anew.
    pub mod compaction {
        pub use crate::table::compaction::{ClusterBy, Targets};
    }
}

/// The document of one mutation.
pub mod wal {
    pub use crate::wal::{Clock, Env, ManualClock};
}
