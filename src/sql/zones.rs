//! Columns with a time zone.
//!
//! Owns which types have one, and which zone it is where the session has none.

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::DataType as SqlType;

/// The time zone of columns in a session without one.
const UTC: &str = "+00:00";

/// Whether values of the type have a time zone, or values in them.
pub(crate) fn is_zoned(data_type: &SqlType) -> bool {
    let written = data_type.to_string().to_ascii_uppercase();
    written.contains("WITH TIME ZONE") || written.contains("TIMESTAMPTZ")
}

/// `state` with a time zone: DataFusion gives that of the session to a `TIMESTAMP WITH TIME ZONE`, and none if the
/// session has none. A column then would have none either; in UTC its values are the moments that they are.
pub(crate) fn with_zone(mut state: SessionState) -> SessionState {
    let execution = &mut state.config_mut().options_mut().execution;
    execution.time_zone.get_or_insert_with(|| UTC.to_owned());
    state
}
