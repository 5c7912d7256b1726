//! The verbs: one file each.

mod deploy;
mod doctor;
mod down;
mod lock;
mod logs;
mod rollback;
mod status;
mod tunnel;

pub(crate) use self::{
    deploy::Deploy, doctor::Doctor, down::Down, lock::Lock, logs::Logs, rollback::Rollback,
    status::Status, tunnel::Tunnel,
};
