//! The functions that change a table, in a session that has no business with them.
//!
//! A call reads as a query, so what forbids statements (`SQLOptions`) does not forbid it. In the place of such a
//! function stands one that says so when it is planned.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;

use crate::error::{Error, ErrorKind};

/// In the place of the function of this name.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) &'static str);

impl TableFunctionImpl for Refused {
    fn call_with_args(&self, _: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        Err(Error::new(
            ErrorKind::ReadOnly,
            self.0,
            "changes a table, and this session may only query; nothing was changed",
        )
        .into())
    }
}
