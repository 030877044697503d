//! Every check of the project in one command: `cargo run -p oxivpn-check`.
//!
//! As root it installs what is missing (Debian and its relatives) and requires the interoperability tests; without root
//! it says what it leaves out. `--no-install` leaves the system's packages alone.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

/// Programs that the tests run and the Debian packages which have them.
const TOOLS: &[(&str, &str)] = &[
    ("openvpn", "openvpn"),
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("openssl", "openssl"),
    ("setpriv", "util-linux"),
    ("sysctl", "procps"),
    ("nft", "nftables"),
];

/// No file of Rust is longer.
const MAX_LINES: usize = 800;

/// What the core and the simulator's library must not use, since they have no clock, randomness, files, sockets, threads
/// or environment.
const BANNED_IN_CORE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "thread_rng",
    "getrandom",
    "OsRng",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
];

/// The same; these are parts of longer words that it may use.
const BANNED_WORDS_IN_CORE: &[&str] = &["rand::rng", "unsafe"];

fn main() -> ExitCode {
    let begun = Instant::now();
    let result = check();
    let seconds = begun.elapsed().as_secs();
    match result {
        Ok(skipped) => {
            for reason in &skipped {
                eprintln!("*** SKIPPED: {reason}");
            }
            println!(
                "check: all passed in {} min {} s; {} skipped",
                seconds / 60,
                seconds % 60,
                skipped.len()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("check: FAILED after {} min {} s: {error:#}", seconds / 60, seconds % 60);
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; returns what was left out and why.
fn check() -> Result<Vec<String>> {
    let mut skipped = Vec::new();
    let root = is_root()?;
    if root && !env::args().any(|word| word == "--no-install") {
        install()?;
    }

    step("source rules", || source_rules(&workspace()))?;
    step("format", || cargo(&["fmt", "--all", "--check"], &[]))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    step("lints", || cargo(&lints, &[]))?;
    let docs = ["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"];
    step("documentation", || cargo(&docs, &[("RUSTDOCFLAGS", "-D warnings".as_ref())]))?;

    // Cargo builds it for the tests. Left to themselves they would have it built anew, without what other packages want
    // of it, which is as good and takes minutes.
    let oxivpn = target()?.join("debug/oxivpn");
    let unset =
        ["OXIVPN_TEST_CLIENT", "OXIVPN_TEST_SERVER"].into_iter().filter(|name| env::var_os(name).is_none());
    let mut variables: Vec<_> = unset.map(|name| (name, oxivpn.as_os_str())).collect();
    if root {
        variables.push(("OXIVPN_REQUIRE_INTEROP", "1".as_ref()));
    } else {
        skipped.push("interoperability tests with real OpenVPN servers (they need root)".into());
    }
    step("tests", || cargo(&["test", "--workspace"], &variables))?;
    // Without `--package` it is the example that the tests have built already.
    let smoke = ["run", "--quiet", "--example", "smoke", "--", "--seconds", "10"];
    step("ten seconds of fuzzing per target", || cargo(&smoke, &[]))?;
    Ok(skipped)
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let begun = Instant::now();
    run().with_context(|| name.to_owned())?;
    println!("== {name}: ok, {:.1} s", begun.elapsed().as_secs_f32());
    Ok(())
}

fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context("cannot run id")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

/// The target folder that this program is in.
fn target() -> Result<PathBuf> {
    let own = env::current_exe()?;
    let target = own.ancestors().nth(2).context("not run from a target folder of cargo")?;
    Ok(target.to_owned())
}

fn cargo(words: &[&str], variables: &[(&str, &OsStr)]) -> Result<()> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(words)
        .current_dir(workspace())
        .env("CARGO_TARGET_DIR", target()?)
        .envs(variables.iter().copied());
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo {} failed", words.join(" "));
    Ok(())
}

fn found(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(tool).is_file())
}

fn install() -> Result<()> {
    let packages: Vec<&str> =
        TOOLS.iter().filter(|(tool, _)| !found(tool)).map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    ensure!(found("apt-get"), "there is no apt-get; install by hand: {}", packages.join(" "));
    println!("== installing {}", packages.join(" "));
    for words in [vec!["update"], [vec!["install", "--yes", "--no-install-recommends"], packages].concat()] {
        let status = Command::new("apt-get")
            .arg("-qq")
            .args(&words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()?;
        ensure!(status.success(), "apt-get {} failed", words.join(" "));
    }
    Ok(())
}

/// Length of files; what the core may use; where `unsafe` may be.
fn source_rules(root: &Path) -> Result<()> {
    let mut problems = Vec::new();
    for top in ["proto", "drivers", "sim", "tests", "fuzz"] {
        for file in rust_files(&root.join(top))? {
            let text = fs::read_to_string(&file)?;
            let shown = file.strip_prefix(root).unwrap_or(&file).display();
            let lines = text.lines().count();
            if lines > MAX_LINES {
                problems.push(format!("{shown}: {lines} lines, more than {MAX_LINES}"));
            }
            for (number, line) in program_lines(&file, &text) {
                let at = format!("{shown}:{number}");
                if is_pure(&file, root) && uses_banned(line) {
                    problems.push(format!("{at}: core and simulator must not use this: {}", line.trim()));
                } else if line.contains("unsafe {") && !file.ends_with("sys.rs") {
                    problems.push(format!("{at}: unsafe outside a file named sys.rs"));
                }
            }
        }
    }
    if !problems.is_empty() {
        bail!("\n{}", problems.join("\n"));
    }
    Ok(())
}

/// Whether a line has something that is banned in the core.
fn uses_banned(line: &str) -> bool {
    BANNED_IN_CORE.iter().any(|part| line.contains(part))
        || BANNED_WORDS_IN_CORE.iter().any(|word| has_word(line, word))
}

/// Whether `word` is in a line, and not as part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// Whether a file belongs to the core, or to the library of the simulator.
fn is_pure(file: &Path, root: &Path) -> bool {
    let sim = root.join("sim/src");
    let program = file.starts_with(sim.join("cli")) || file == sim.join("main.rs");
    file.starts_with(root.join("proto/src")) || (file.starts_with(&sim) && !program)
}

/// Lines with their numbers, without comments, without attributes and without what is compiled for tests only.
fn program_lines<'a>(file: &Path, text: &'a str) -> Vec<(usize, &'a str)> {
    let for_tests =
        file.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")))
            || file.ends_with("tests.rs");
    if for_tests {
        return Vec::new();
    }
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim_start().starts_with("#!") && !line.trim_start().starts_with("#["))
        .collect()
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(files) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_find_what_they_forbid() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "proto/src/good.rs",
            "// no std::fs here\nfn unsafely(_: rand::rngs::R) {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        );
        write("proto/src/good/tests.rs", "use std::fs;\n");
        write("drivers/tun/src/sys.rs", "fn f() { unsafe { g() } }\n");
        source_rules(root.path()).unwrap();

        write("proto/src/bad.rs", "fn f() { std::time::Instant::now(); }\n");
        write("proto/src/names.rs", "fn f() { let e: SystemTimeError; rand::rng(); }\n");
        write("drivers/tun/src/bad.rs", "fn f() { unsafe { g() } }\n");
        write("sim/src/long.rs", &"\n".repeat(MAX_LINES + 1));
        let text = source_rules(root.path()).unwrap_err().to_string();
        for expected in
            ["proto/src/bad.rs:1", "proto/src/names.rs:1", "drivers/tun/src/bad.rs:1", "sim/src/long.rs"]
        {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
        assert_eq!(text.trim().lines().count(), 4, "{text}");
    }
}
