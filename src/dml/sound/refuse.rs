//! What cannot be evaluated rightly is refused.

use datafusion::error::DataFusionError;

use crate::error::{Error, ErrorKind};

/// The refusal of a correlated subquery that has `what` in it.
pub(super) fn unsupported(what: &str) -> DataFusionError {
    Error::new(
        ErrorKind::Unsupported,
        "subquery",
        format!(
            "a subquery that refers to the outer query cannot be evaluated over {what}; write it as a join, or \
             put its result in a table first"
        ),
    )
    .into()
}
