//! The functions, by name.

use std::sync::Arc;

use datafusion::catalog::TableFunctionImpl;

use crate::sql::functions::add_files::AddFiles;
use crate::sql::functions::alter::Alter;
use crate::sql::functions::at::{AT, At};
use crate::sql::functions::changes::Changes;
use crate::sql::functions::files::Files;
use crate::sql::functions::history::History;
use crate::sql::functions::optimize::Optimize;
use crate::sql::functions::properties::Properties;
use crate::sql::functions::recover::Recover;
use crate::sql::functions::refused::Refused;
use crate::sql::functions::restore::Restore;
use crate::sql::functions::vacuum::Vacuum;
use crate::sql::functions::wal::Wal;

/// How the name of every function of this crate begins.
pub(crate) const FUNCTION_PREFIX: &str = "supertable_";

/// All functions, for a session's registry.
pub(crate) fn table_functions() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    let mut functions = changing();
    functions.extend([
        (AT, Arc::new(At) as Arc<dyn TableFunctionImpl>),
        ("supertable_changes", Arc::new(Changes)),
        ("supertable_files", Arc::new(Files)),
        ("supertable_history", Arc::new(History)),
        ("supertable_properties", Arc::new(Properties)),
        ("supertable_wal", Arc::new(Wal)),
    ]);
    functions
}

/// In the place of every function that changes a table, one that is refused.
pub(crate) fn refused_functions() -> impl Iterator<Item = (&'static str, Arc<dyn TableFunctionImpl>)>
{
    changing()
        .into_iter()
        .map(|(name, _)| (name, Arc::new(Refused(name)) as Arc<dyn TableFunctionImpl>))
}

/// The functions that change a table, or what is stored of it.
fn changing() -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    vec![
        ("supertable_add_files", Arc::new(AddFiles)),
        ("supertable_alter", Arc::new(Alter)),
        ("supertable_optimize", Arc::new(Optimize)),
        ("supertable_recover", Arc::new(Recover)),
        ("supertable_restore", Arc::new(Restore)),
        ("supertable_vacuum", Arc::new(Vacuum)),
    ]
}
