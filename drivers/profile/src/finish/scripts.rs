//! Command lines of scripts (`openvpn: options.c`, `set_user_script`).

use oxivpn_proto::options::lexer;

use crate::draft::Draft;
use crate::error::ProfileError;
use crate::load::{Files, reason};
use crate::server::{ScriptOptions, VerifyVia};

/// Scripts that all kinds of profiles have. Every script of the profile is checked here.
pub(super) fn resolve(draft: &Draft, files: &dyn Files) -> Result<ScriptOptions, ProfileError> {
    for name in draft.scripts.commands.keys() {
        check(draft, files, name)?;
    }
    let scripts = &draft.scripts;
    Ok(ScriptOptions {
        security: scripts.security,
        up: words(draft, "up")?,
        down: words(draft, "down")?,
        down_pre: scripts.down_pre,
        up_restart: scripts.up_restart,
        route_up: words(draft, "route-up")?,
        route_pre_down: words(draft, "route-pre-down")?,
        ipchange: words(draft, "ipchange")?,
        tls_verify: words(draft, "tls-verify")?,
    })
}

/// The words of a script's command line, program first.
pub(super) fn words(draft: &Draft, name: &str) -> Result<Option<Vec<String>>, ProfileError> {
    let Some((text, origin)) = draft.scripts.commands.get(name) else { return Ok(None) };
    let cure = format!("Write `{name} \"PROGRAM ARGUMENT ..\"`");
    let words = lexer::split(text)
        .map_err(|error| ProfileError::at(origin, format!("--{name} script: {error}")).cure(cure.clone()))?;
    if words.is_empty() {
        let text = format!("--{name} script fails with '{text}': No path to executable");
        return Err(ProfileError::at(origin, text).cure(cure));
    }
    Ok(Some(words.into_iter().map(Into::into).collect()))
}

fn check(draft: &Draft, files: &dyn Files, name: &str) -> Result<(), ProfileError> {
    let Some((_, origin)) = draft.scripts.commands.get(name) else { return Ok(()) };
    let words = words(draft, name)?.unwrap_or_default();
    let program = words.first().map_or("", String::as_str);
    if draft.scripts.security < 2 {
        let text = format!(
            "--{name}: external program may not be called unless '--script-security 2' or higher is enabled"
        );
        return Err(ProfileError::at(origin, text).cure("Add a line `script-security 2`, or remove this one"));
    }
    let via_env = name == "auth-user-pass-verify" && draft.server.verify_via == VerifyVia::Env;
    if via_env && draft.scripts.security < 3 {
        let text = "--auth-user-pass-verify .. via-env: passwords may not be in the environment unless \
                    '--script-security 3' is enabled";
        return Err(ProfileError::at(origin, text.into())
            .cure("Write `via-file`, which needs no more than `script-security 2`, or `script-security 3`"));
    }
    // `up` runs before the root directory is changed.
    let path = if name == "up" { draft.path(program) } else { draft.path_inside(program).1 };
    files.executable(&path).map_err(|error| {
        let (why, cure) = reason(&error);
        let cure = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                format!("Make it executable with `chmod +x {}`", path.display())
            }
            _ => cure.to_string(),
        };
        ProfileError::at(origin, format!("--{name} script fails with '{}': {why}", path.display())).cure(cure)
    })
}
