//! The verbs: one file each.

mod backup;
mod deploy;
mod doctor;
mod down;
mod history;
mod lock;
mod logs;
mod restore;
mod rollback;
mod status;
mod tunnel;

pub(crate) use self::{
    backup::Backup, deploy::Deploy, doctor::Doctor, down::Down, history::History, lock::Lock,
    logs::Logs, restore::Restore, rollback::Rollback, status::Status, tunnel::Tunnel,
};
