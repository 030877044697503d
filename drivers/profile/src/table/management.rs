//! The management interface (man section management).

use oxivpn_proto::options::values;

use super::{Entry, honoured, not_built, refused};
use crate::draft::{Draft, Fault, Place, Source};
use crate::grammar::Line;
use crate::server::ManagementOptions;

const MANAGEMENT: &str = "this part of the management interface";
const CURE: &str = "Remove the line, or use the OpenVPN client";

pub(super) const ENTRIES: &[Entry] = &[
    honoured("management ADDRESS PORT|unix [PASSWORD-FILE]", 2, 3, |d, l| {
        let port = l.word(1).ok_or(Fault::Parameters)?.to_string();
        let password =
            l.word(2).map(|file| Source { place: Place::File(file.into()), origin: l.origin.clone() });
        d.management.listen = Some(((l.first()?.into(), port, password), l.origin.clone()));
        Ok(())
    }),
    honoured("management-client", 0, 0, |d, l| flag(d, l, |m| m.connect = true)),
    honoured("management-client-user USER", 1, 1, |d, l| {
        d.management.restricted = Some(l.origin.clone());
        let user = l.first()?.to_string();
        flag(d, l, |m| m.client_user = Some(user))
    }),
    honoured("management-client-group GROUP", 1, 1, |d, l| {
        d.management.restricted = Some(l.origin.clone());
        let group = l.first()?.to_string();
        flag(d, l, |m| m.client_group = Some(group))
    }),
    honoured("management-query-passwords", 0, 0, |d, l| flag(d, l, |m| m.query_passwords = true)),
    not_built("management-query-remote", MANAGEMENT, CURE),
    not_built("management-query-proxy", MANAGEMENT, CURE),
    honoured("management-hold", 0, 0, |d, l| flag(d, l, |m| m.hold = true)),
    honoured("management-signal", 0, 0, |d, l| flag(d, l, |m| m.signal = true)),
    honoured("management-forget-disconnect", 0, 0, |d, l| flag(d, l, |m| m.forget_disconnect = true)),
    honoured("management-up-down", 0, 0, |d, l| flag(d, l, |m| m.up_down = true)),
    honoured("management-client-auth", 0, 0, |d, l| flag(d, l, |m| m.client_auth = true)),
    not_built("management-external-key", MANAGEMENT, CURE),
    not_built("management-external-cert", MANAGEMENT, CURE),
    honoured("management-log-cache LINES", 1, 1, |d, l| {
        let lines = values::number(l.first()?, 1, i32::MAX as u64)? as usize;
        flag(d, l, |m| m.log_cache = lines)
    }),
    refused(
        "management-client-pf",
        "packet filters were removed in OpenVPN 2.6",
        "Filter with `nft` on the tunnel device",
    ),
];

#[expect(clippy::unnecessary_wraps, reason = "what the table calls")]
fn flag(draft: &mut Draft, line: &Line, set: impl FnOnce(&mut ManagementOptions)) -> Result<(), Fault> {
    draft.management.modifier.get_or_insert_with(|| line.origin.clone());
    set(&mut draft.management.options);
    Ok(())
}
