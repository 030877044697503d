//! Scripts in the life of a client. They run beside the loop; what comes after one waits for its end.

use std::collections::VecDeque;

use anyhow::Result;
use oxivpn_host::plan::PlanError;
use oxivpn_proto::Instant;
use oxivpn_proto::tls::PeerIdentity;
use oxivpn_proto::tls::facts::facts;

use super::events::Established;
use super::tunnel::Outline;
use super::{Client, Outcome, Phase, SAME_SIGNAL, Then};
use crate::manage::State;
use crate::scripts::JobId;
use crate::scripts::kinds::Hook;
use crate::scripts::variables::{self, Occasion};
use crate::{notify, process, say};

/// A tunnel on its way up: device, addresses, `up`, routes, `route-up`.
pub(super) struct Rise {
    news: Established,
    outline: Outline,
    /// Whether the device, or what is set on it, is new.
    fresh: bool,
    /// Whether all that was to be set is set.
    complete: bool,
    next: Step,
    waiting: Option<JobId>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Run(Hook),
    /// Set routes and all else.
    SetAll,
    /// Take addresses, routes and device back.
    Undo,
    Done,
}

/// A tunnel on its way down: `route-pre-down`, routes, addresses, device, `down`.
pub(super) struct Descent {
    steps: VecDeque<Step>,
    waiting: Option<JobId>,
    since: Instant,
    /// How the client ends then, and with which words; `None` if it goes on.
    then: Option<(Outcome, Option<String>)>,
}

impl Client {
    /// Takes the ends of scripts; whether there were any.
    pub(super) fn poll_scripts(&mut self, now: Instant) -> Result<bool> {
        let mut any = false;
        while let Some((id, result)) = self.around.poll() {
            any = true;
            result?;
            if self.rise.as_ref().is_some_and(|rise| rise.waiting == Some(id)) {
                self.rise_on(now)?;
            } else if self.descent.as_ref().is_some_and(|descent| descent.waiting == Some(id)) {
                self.descend_on();
            }
        }
        Ok(any)
    }

    /// The data channel is ready: opens the device and sets the host up.
    pub(super) fn rise(&mut self, now: Instant, news: Established) -> Result<()> {
        let Some(address) = self.address() else { return Ok(()) };
        self.tell_tunnel(now, State::AssignIp, "");
        let device = self.host.open(&self.profile, self.path.device())?;
        let Some(present) = device.as_ref().or_else(|| self.path.device()) else { return Ok(()) };
        let pushed = &self.attempt.pushed;
        let outline = self.host.outline(&self.profile, pushed, news.tun_mtu, Some(address.ip()), present);
        let outline = match outline {
            // What a server pushes must not end the program.
            Err(error) if error.is::<PlanError>() => {
                say!(
                    self.log,
                    Error,
                    "ERROR: Failed to apply push options: {error}. Tell the server's administrator"
                );
                self.end_session(now, Then::Restart);
                return Ok(());
            }
            outline => outline?,
        };
        let fresh = device.is_some() || self.told.as_ref() != Some(&outline.options);
        let occasion = if fresh { Occasion::Init } else { Occasion::Restart };
        let known = (&outline.options, &outline.around);
        self.around.tunnel(&outline.device, news.tun_mtu, occasion, known, pushed);
        self.told = Some(outline.options.clone());
        if fresh {
            self.tell_up_down("UP");
        }
        if let Some(device) = device {
            self.serial += 1;
            self.path.plane.set_device(Some(&device));
            self.path.set_device(device);
        }
        let up = self.around.has(Hook::Up) && (fresh || self.around.on_restarts());
        if up && fresh {
            self.host.set_addresses(&outline)?;
        }
        let next = if up { Step::Run(Hook::Up) } else { Step::SetAll };
        self.rise = Some(Rise { news, outline, fresh, complete: true, next, waiting: None });
        self.rise_on(now)
    }

    /// Goes on until a script must be waited for.
    fn rise_on(&mut self, now: Instant) -> Result<()> {
        while let Some(rise) = &mut self.rise {
            rise.waiting = None;
            match rise.next {
                Step::Run(Hook::Up) => {
                    rise.next = Step::SetAll;
                    rise.waiting = self.around.start(Hook::Up)?;
                }
                Step::Run(hook) => {
                    rise.next = Step::Done;
                    rise.waiting = self.around.start(hook)?;
                }
                Step::SetAll => {
                    let routes = !rise.outline.options.routes.is_empty();
                    rise.next = if rise.fresh { Step::Run(Hook::RouteUp) } else { Step::Done };
                    rise.complete = self.host.set_all(&rise.outline)?;
                    variables::redirected(self.around.env(), &rise.outline.options);
                    if routes {
                        self.tell_plain(now, State::AddRoutes);
                    }
                }
                Step::Undo | Step::Done => {
                    let Some(rise) = self.rise.take() else { break };
                    return self.risen(now, &rise);
                }
            }
            if self.rise.as_ref().is_some_and(|rise| rise.waiting.is_some()) {
                break;
            }
        }
        Ok(())
    }

    /// The tunnel stands.
    fn risen(&mut self, now: Instant, rise: &Rise) -> Result<()> {
        self.path.set_peer(Some(rise.news.peer));
        self.retry.established();
        self.up_since = Some(now);
        self.identity.assume(&self.log)?;
        process::settle(&self.profile.process);
        let end = if rise.complete { "" } else { " With Errors" };
        notify::status(&format!("Initialization Sequence Completed{end}"));
        say!(self.log, Info, "Initialization Sequence Completed{end}");
        self.tell_tunnel(now, State::Connected, if rise.complete { "SUCCESS" } else { "ERROR" });
        self.tell_parameters(&rise.news);
        Ok(())
    }

    /// Between two connections: the device goes, or stays with `persist-tun`. `signal` is why, for scripts.
    pub(super) fn descend(&mut self, now: Instant, signal: &str) {
        let mut steps = VecDeque::new();
        match self.profile.device.persist {
            true if self.around.on_restarts() && self.path.device().is_some() => {
                self.around.env().set("script_context", Occasion::Restart.name());
                steps.push_back(Step::Run(Hook::Down));
            }
            true => {}
            false => self.take_down(&mut steps),
        }
        self.begin_descent(now, signal, steps, None);
    }

    /// Ends the client: the device goes.
    pub(super) fn end(&mut self, now: Instant, signal: &str, outcome: Outcome, words: Option<String>) {
        self.stop_attempt();
        self.write_status(now, true);
        if let Some(manage) = &mut self.manage {
            manage.stop_waiting();
        }
        // Scripts about a restart that have not run yet still do.
        let mut steps = self.descent.take().map(|descent| descent.steps).unwrap_or_default();
        if !steps.contains(&Step::Undo) {
            self.take_down(&mut steps);
        }
        self.phase = Phase::Ending;
        self.begin_descent(now, signal, steps, Some((outcome, words)));
    }

    fn take_down(&mut self, steps: &mut VecDeque<Step>) {
        // Without a tunnel there is nothing to tell, but perhaps something to undo.
        let (before, after) = match (self.told.take(), self.around.down_first()) {
            (None, _) => (None, None),
            (Some(_), true) => (Some(Hook::Down), None),
            (Some(_), false) => (None, Some(Hook::Down)),
        };
        if before.or(after).is_some() {
            self.tell_up_down("DOWN");
            self.around.env().set("script_context", Occasion::Init.name());
            steps.push_back(Step::Run(Hook::RoutePreDown));
        }
        steps.extend(before.map(Step::Run));
        steps.push_back(Step::Undo);
        steps.extend(after.map(Step::Run));
    }

    fn begin_descent(
        &mut self,
        now: Instant,
        signal: &str,
        steps: VecDeque<Step>,
        then: Option<(Outcome, Option<String>)>,
    ) {
        self.around.env().set("signal", signal);
        self.descent = Some(Descent { steps, waiting: None, since: now, then });
        self.descend_on();
    }

    /// Goes on until a script must be waited for.
    fn descend_on(&mut self) {
        loop {
            let Some(descent) = &mut self.descent else { return };
            descent.waiting = None;
            match descent.steps.pop_front() {
                Some(Step::Run(hook)) => match self.around.start(hook) {
                    Ok(Some(id)) => {
                        descent.waiting = Some(id);
                        return;
                    }
                    Ok(None) => {}
                    // Not a reason to leave the host as it is.
                    Err(error) => say!(self.log, Error, "{error}"),
                },
                Some(_) => {
                    self.host.tear_down();
                    self.path.plane.set_device(None);
                    self.path.take_device();
                }
                None => {
                    if let Some((outcome, words)) = self.descent.take().and_then(|descent| descent.then) {
                        if let Some(words) = words {
                            say!(self.log, Info, "{words}");
                        }
                        self.phase = Phase::Over(outcome);
                    }
                    return;
                }
            }
        }
    }

    /// A further request to leave does not wait for scripts any longer.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Some(descent) = &mut self.descent
            && descent.then.is_some()
            && descent.since + SAME_SIGNAL <= now
        {
            descent.steps.retain(|step| *step == Step::Undo);
            self.descend_on();
        }
    }

    /// The server has shown who it is.
    pub(super) fn tell_identity(&mut self, peer: &PeerIdentity) {
        let env = self.around.env();
        for (depth, der) in peer.certificates.iter().enumerate() {
            if let Some(facts) = facts(der) {
                variables::certificate(env, depth, &facts);
            }
        }
        if let Some(name) = &peer.common_name {
            env.set("common_name", name);
        }
    }

    /// The server was authenticated where it is now (`openvpn: socket.c`, `link_socket_connection_initiated`).
    pub(super) fn tell_address(&mut self) -> Result<()> {
        if let Some(address) = self.address() {
            variables::trusted(self.around.env(), address);
            self.around.start(Hook::IpChange)?;
        }
        Ok(())
    }
}
