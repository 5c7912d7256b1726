//! The verbs: one file each.

mod backup;
mod deploy;
mod dev;
mod doctor;
mod down;
mod history;
mod lock;
mod logs;
mod plan;
mod request;
mod restore;
mod rollback;
mod rotate;
mod runs;
mod schema;
mod status;
mod tunnel;

pub(crate) use self::{
    backup::Backup,
    dev::Dev,
    doctor::Doctor,
    down::Down,
    history::History,
    lock::Lock,
    logs::Logs,
    plan::{Apply, Plan},
    request::Deploy,
    restore::Restore,
    rollback::Rollback,
    rotate::Env,
    runs::Runs,
    schema::Schema,
    status::Status,
    tunnel::Tunnel,
};
