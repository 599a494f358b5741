//! The kernel's rules for the agent's life (`run --redirect`): in place before it is ready, replaced when a reload asks for
//! others or a control group they name is made anew, and taken away once it has drained.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use adit_config::Config;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::StartError;
use crate::{
    redirect::{self, Groups, Plan, RulesError, Since, Stamp, Tool},
    reload::Applied,
    telemetry::metrics,
};

/// How often it is looked whether a control group is another.
const LOOK: Duration = Duration::from_secs(1);
/// Of so many of these looks one is at the rules themselves, which takes a few processes.
const LOOKS_AT_RULES: u64 = 10;

/// The rules that this agent holds.
#[derive(Debug)]
pub(super) struct Rules {
    tool: Tool,
    held: Mutex<Option<Held>>,
    /// A successor is about to put its own in their place.
    expects: AtomicBool,
}

#[derive(Debug)]
struct Held {
    plan: Plan,
    groups: Groups,
    /// Of the rules as they were put in place; none where that could not be told.
    stamp: Option<Stamp>,
    /// It was told that others are in their place.
    told: bool,
}

impl Rules {
    /// Installs the rules of a plan.
    pub(super) fn install(plan: Plan, tool: Tool) -> Result<Arc<Rules>, StartError> {
        plan.warnings.iter().for_each(|warning| warn!("{warning}"));
        let held = put(plan, &tool).map_err(|error| StartError::Rules(Box::new(error)))?;
        info!(rules = held.plan.rules(), "the kernel's rules are in place");
        Ok(Arc::new(Rules { tool, held: Mutex::new(Some(held)), expects: AtomicBool::new(false) }))
    }

    /// Replaces them, if the plan is another, and tells what came of it. Runs the tools, and so blocks.
    pub(super) fn follow(&self, plan: Plan, applied: &mut Applied) {
        let mut held = self.held();
        let Some(before) = held.as_mut().filter(|before| before.plan != plan) else { return };
        applied.warnings.extend(plan.warnings.iter().cloned());
        match put(plan, &self.tool) {
            Ok(next) => {
                *before = next;
                applied.changes.push(format!("the kernel's rules: replaced, {} now", before.plan.rules()));
            }
            Err(error) => applied.warnings.push(format!("the kernel's rules stay as they were: {error}")),
        }
    }

    /// Installs them again whenever a control group that they name is another than the one they were made for, until
    /// `stop`: the kernel knows it by a number, and a unit that is started again has a new one. And puts them back where
    /// somebody has taken them away: without them all that they name leaves in plaintext.
    pub(super) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK);
        let mut looks: u64 = 0;
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if self.expects.load(Relaxed) {
                continue;
            }
            looks += 1;
            let (rules, at_rules) = (Arc::clone(&self), looks.is_multiple_of(LOOKS_AT_RULES));
            let look = move || {
                rules.renew();
                if at_rules {
                    rules.hold();
                }
            };
            // A task that panicked has changed nothing.
            let _ = spawn_blocking(look).await;
        }
    }

    fn hold(&self) {
        let mut held = self.held();
        let Some(before) = held.as_mut() else { return };
        let Some((mine, now)) = before.stamp.as_ref().zip(redirect::stamp(&self.tool).ok()) else { return };
        match mine.since(&now) {
            Since::Same => {}
            Since::Others if before.told => {}
            Since::Others => {
                before.told = true;
                metrics::rules_lost("others");
                error!(
                    "others of adit's are in the place of the kernel's rules that this agent holds; what they do not bring \
                     to it may leave in plaintext; a restart puts its own in their place"
                );
            }
            Since::Gone => match put(before.plan.clone(), &self.tool) {
                Ok(next) => {
                    *before = next;
                    metrics::rules_lost("gone");
                    error!(
                        "somebody had taken the kernel's rules away; they are back, and until now nothing was captured"
                    );
                }
                Err(error) => error!("somebody took the kernel's rules away, and they cannot be put back: {error}"),
            },
        }
    }

    fn renew(&self) {
        let mut held = self.held();
        let Some(before) = held.as_mut() else { return };
        let Some(changed) = before.groups.changed().map(str::to_owned) else { return };
        match put(before.plan.clone(), &self.tool) {
            Ok(next) => {
                *before = next;
                warn!(cgroup = changed, "made anew: what it connected to until now was not captured");
            }
            // Told again when it changes again.
            Err(error) => {
                before.groups = Groups::of(&before.plan);
                error!(cgroup = changed, "made anew, and the kernel's rules for it are not in place: {error}");
            }
        }
    }

    /// A successor that starts puts its own in their place: they are not to be put back meanwhile.
    pub(super) fn expect(&self) {
        self.expects.store(true, Relaxed);
    }

    /// Leaves them to the process that has put its own in their place.
    pub(super) fn leave(&self) {
        *self.held() = None;
    }

    /// Puts them in the place of those of a process that did not take this one's place after all. Runs the tools, and so
    /// blocks.
    pub(super) fn stand(&self) {
        self.expects.store(false, Relaxed);
        let mut held = self.held();
        let Some(before) = held.as_mut() else { return };
        if before
            .stamp
            .as_ref()
            .zip(redirect::stamp(&self.tool).ok())
            .is_some_and(|(mine, now)| mine.since(&now) == Since::Same)
        {
            return;
        }
        match put(before.plan.clone(), &self.tool) {
            Ok(next) => *before = next,
            Err(error) => error!("the kernel's rules stay those of the new process: {error}"),
        }
    }

    /// Takes them away; no reload puts them back.
    fn release(&self) {
        let Some(held) = self.held().take() else { return };
        let now = redirect::stamp(&self.tool).ok();
        if held.stamp.zip(now).is_some_and(|(mine, now)| mine.since(&now) == Since::Others) {
            // Another agent's, or an operator's: without them its connections would go their way in plaintext.
            warn!(
                "the kernel's rules are not those that this agent put in place, and stay; `adit redirect remove` takes \
                   them away"
            );
            return;
        }
        match redirect::remove(&self.tool) {
            Ok(_) => info!("the kernel's rules are taken away"),
            Err(error) => {
                error!("the kernel's rules are still in place; `adit redirect remove` takes them away: {error}");
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the rules away when the agent's life ends, in whatever way.
pub(super) struct Release(pub(super) Arc<Rules>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// The plan of a configuration, before anything is changed for it.
pub(super) fn plan(config: &Config) -> Result<Plan, StartError> {
    redirect::plan(config).map_err(|error| StartError::Rules(Box::new(error)))
}

/// Tells whoever reloads that the rules are another's to replace, where the agent does not hold them.
pub(super) fn remind(before: &Config, now: &Config, applied: &mut Applied) {
    if let (Ok(before), Ok(now)) = (redirect::plan(before), redirect::plan(now))
        && before != now
    {
        let line =
            "this agent does not hold the kernel's rules, and the file asks for others now: `adit redirect apply`";
        applied.warnings.push(line.to_owned());
    }
}

fn put(plan: Plan, tool: &Tool) -> Result<Held, RulesError> {
    // Looked at first: one that changes meanwhile is then another the next time.
    let groups = Groups::of(&plan);
    let stamp = redirect::hold(&plan, tool)?;
    Ok(Held { plan, groups, stamp, told: false })
}
