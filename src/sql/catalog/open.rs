//! Opening a catalog in a session.

use datafusion::prelude::SessionContext;

use super::list;
use super::opener::Opener;
use super::state::CatalogState;
use super::tables::SupertableCatalog;
use crate::error::Result;
use crate::sql::location::resolve;
use crate::sql::session::register;

/// Registers the tables below `root` (a path or URL) with the session, as the catalog `name`.
///
/// `CREATE TABLE`, `CREATE OR REPLACE TABLE` and `DROP TABLE` on it are for [`sql`](super::sql) or
/// [`execute`](super::execute), which do them safely. With `SessionContext::sql` they change nothing and fail, but
/// for `DROP TABLE IF EXISTS`, which DataFusion lets do nothing.
///
/// Every session that shares this one's list of catalogs has it too, and may outlive this session. What changes
/// a table asks the session whose statement it is whether that only reads (`supertable.read_only`). Opening a
/// table is for all of them, so it goes by the options of this one: if it only reads, all only read.
///
/// # Errors
/// `root` is not a location that the session can reach.
pub fn open_catalog(ctx: &SessionContext, name: &str, root: &str) -> Result<SupertableCatalog> {
    register(ctx)?;
    let root = match root.ends_with('/') {
        true => root.to_owned(),
        false => format!("{root}/"),
    };
    let place = resolve(&ctx.state(), &root)?;
    let state = CatalogState::new(name, root, place, Opener::new(ctx));
    let catalog = SupertableCatalog::new(state);
    list::register(ctx, &catalog);
    Ok(catalog)
}
