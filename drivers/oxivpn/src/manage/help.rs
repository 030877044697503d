//! The answer to `help`.

/// One line for each command that does something here.
const COMMANDS: [(&str, &str); 37] = [
    ("auth-retry [mode]", "after a refused login: none, interact, nointeract; without a mode, show it"),
    ("bytecount n", "report bytes in and out every n seconds, 0 stops it"),
    ("client-auth CID KID", "let a client in; options follow, one in a line, then END"),
    ("client-auth-nt CID KID", "let a client in without options"),
    ("client-deny CID KID R [CR]", "refuse a client: R for the log, CR for the client"),
    ("client-kill CID [message]", "end a client's session, RESTART unless a message is given"),
    ("client-pending-auth CID KID MSG T", "tell a client that its login takes up to T seconds"),
    ("cr-response text", "answer the server's challenge, in base64"),
    ("echo [on|off] [n|all]", "messages of the echo option, as in log"),
    ("env-filter [level]", "which variables client notices show: 0 all, 1, 2 few"),
    ("exit, quit", "close this connection"),
    ("forget-passwords", "forget what was typed"),
    ("help", "this list"),
    ("hold [on|off|release]", "wait before each start, or go on now"),
    ("kill name", "end the sessions of clients with this common name"),
    ("kill IP:port", "end the session of the client at this address"),
    ("load-stats", "number of clients and sums of bytes"),
    ("log [on|off] [n|all]", "log lines as they come, and the last n"),
    ("mute [n]", "show or set the limit of similar log lines"),
    ("nclients", "number of clients"),
    ("needok name answer", "answer a NEED-OK question"),
    ("needstr name answer", "answer a NEED-STR question"),
    ("password kind value", "answer a PASSWORD question"),
    ("password kind", "the same in lines of base64, then END (version 5)"),
    ("pid", "number of the process"),
    ("push-update-broad options", "change options of all clients"),
    ("push-update-cid CID options", "change options of one client"),
    ("remote-entry-count", "number of servers in the profile"),
    ("remote-entry-get i|all [j]", "servers i to j-1 of the profile"),
    ("signal s", "SIGHUP, SIGTERM, SIGUSR1 or SIGUSR2"),
    ("state [on|off] [n|all]", "states, as in log"),
    ("status [version]", "the status table"),
    ("test n", "n lines of text"),
    ("username kind value", "answer a PASSWORD question"),
    ("verb [n]", "show or set how much is logged"),
    ("version", "versions of program and interface"),
    ("version n", "the version of the interface that you speak"),
];

/// The lines of the answer.
pub(super) fn lines() -> impl Iterator<Item = String> {
    let head = [format!("Management Interface for {}", crate::status::title()), "Commands:".to_owned()];
    let commands = COMMANDS.iter().map(|(command, what)| format!("{command:34}: {what}"));
    head.into_iter().chain(commands).chain(["END".to_owned()])
}
