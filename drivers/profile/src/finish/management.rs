//! The management interface and the status file.

use core::net::{IpAddr, Ipv4Addr};

use zeroize::Zeroizing;

use super::text;
use crate::draft::Draft;
use crate::draft::Place;
use crate::error::ProfileError;
use crate::load::Files;
use crate::server::{ManagementAddress, ManagementOptions, StatusOptions};

/// Lines that are kept for late readers (`openvpn: options.c`, `init_options`).
const LOG_CACHE: usize = 250;

pub(super) fn resolve(
    draft: &mut Draft,
    files: &dyn Files,
) -> Result<Option<ManagementOptions>, ProfileError> {
    let Some(((address, port, password), origin)) = draft.management.listen.clone() else {
        let Some(origin) = &draft.management.modifier else { return Ok(None) };
        let text = "--management is not specified, however one or more options which modify the behavior of \
                    --management were specified";
        return Err(
            ProfileError::at(origin, text.into()).cure("Add `management 127.0.0.1 PORT` or remove the line")
        );
    };
    let mut options = draft.management.options.clone();
    if options.log_cache == 0 {
        options.log_cache = LOG_CACHE;
    }
    options.listen = if port == "unix" {
        ManagementAddress::Unix(draft.path(&address))
    } else {
        let ip = match address.as_str() {
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            "tunnel" => {
                let text =
                    "management: listening at the tunnel's own address (`tunnel`) is not built yet".into();
                return Err(ProfileError::at(&origin, text).cure("Write `management 127.0.0.1 PORT`"));
            }
            other => other.parse(),
        };
        let at = |text: String| {
            ProfileError::at(&origin, text)
                .cure("Write `management 127.0.0.1 PORT` or `management PATH unix`")
        };
        let ip =
            ip.map_err(|_| at(format!("management: '{}' is not an IP address", address.escape_debug())))?;
        let number = port.parse().map_err(|_| {
            at(format!("management: '{}' is neither a port nor the word unix", port.escape_debug()))
        })?;
        ManagementAddress::Tcp(ip, number)
    };
    if let (Some(origin), ManagementAddress::Tcp(..)) = (&draft.management.restricted, &options.listen) {
        let text = "--management-client-(user|group) can only be used on unix domain sockets".into();
        return Err(ProfileError::at(origin, text).cure("Write `management PATH unix`, or remove this line"));
    }
    match password {
        None if matches!(options.listen, ManagementAddress::Tcp(..)) => draft.warn(
            &origin,
            "Using --management on a TCP port WITHOUT passwords is STRONGLY discouraged and considered insecure; name a \
             file with a password as third word, or listen on a unix socket",
        ),
        None => {}
        Some(source) if matches!(&source.place, Place::File(name) if name == "stdin") => {
            let text = "management: asking for the password at the terminal (`stdin`) is not built yet".into();
            return Err(ProfileError::at(&origin, text).cure("Write the password into a file and name that"));
        }
        Some(source) => {
            let text = text(draft, files, "management", &source, true)?;
            let line = text.lines().next().unwrap_or_default();
            if line.is_empty() {
                let text = "management: the password file is empty".into();
                return Err(ProfileError::at(&origin, text).cure("Write the password on its first line"));
            }
            options.password = Some(Zeroizing::new(line.to_string()));
        }
    }
    Ok(Some(options))
}

pub(super) fn status(draft: &Draft) -> Option<StatusOptions> {
    draft.status.as_ref().map(|(file, every)| StatusOptions {
        path: draft.path(file),
        every: *every,
        version: draft.status_version,
    })
}
