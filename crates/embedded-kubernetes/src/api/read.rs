//! Reads one object.

use super::answer::{Answer, Form};
use super::call::Call;
use super::tables::Tables;
use super::{Server, view};
use crate::status::Status;
use crate::store::Object;

/// GET of an object, or of its status, which returns the same.
pub(super) fn get(server: &Server, call: &Call) -> Result<Answer, Status> {
    super::list::check_version(server, call)?;
    let object = server.store().get(&call.resource(), &call.key()).ok_or_else(|| call.not_found())?;
    in_form(server, call, &object)
}

/// Returns an object in the requested form.
fn in_form(server: &Server, call: &Call, object: &Object) -> Result<Answer, Status> {
    Ok(match call.accept.form()? {
        Form::Table => Answer::value(Tables::new(call, server.clock())?.table_of_one(&call.kind, &object.value, true)),
        form => Answer::json(view::json(&call.kind, object, form)),
    })
}
