//! One reconcile: observe, validate, decide, build, apply, status. It never waits for a source.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;

use crate::serve::metrics::JobNumbers;
use sluice_api::conditions::reasons;
use sluice_api::{RESUME_ANNOTATION, StreamJob};
use sluice_base::units::Seconds;
use sluice_policy::Memory;
use sluice_signals::{JobKey, JobSamples};

use crate::apply::attempts::Request;
use crate::apply::build::Prepared;
use crate::apply::ensure;
use crate::apply::ownership::ForeignWrites;
use crate::apply::refusal::Refusals;
use crate::apply::scale::{self, Plan};
use crate::context::{Context, JobState};
use crate::error::{Error, Refused};
use crate::observe::live;
use crate::observe::live::Seen;
use crate::observe::observation;
use crate::observe::target::Existing;
use crate::status::conditions::Facts;
use crate::status::facts;
use crate::status::facts::Look;
use crate::status::learned;
use crate::status::publish::publish;
use crate::status::signals::Verdict;
use crate::validate;
use crate::validate::{Job, Problem, Target};
use crate::watch::unreadable;

/// A job is looked at this often even if nothing happens: no watch promises to deliver everything.
const PERIOD: Duration = Duration::from_secs(15);

/// A job whose reconcile has panicked is left alone for so long.
pub(crate) const SET_ASIDE: Seconds = Seconds(60.0);

/// Reconciles one `StreamJob`. A panic is a fault of ours that this one job has brought to light: it is told, the job is set
/// aside for a while, and the others go on.
pub(crate) async fn reconcile(
    object: Arc<DeserializeGuard<StreamJob>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let _under_way = context.health.reconciling(context.clock.monotonic());
    let object = match object.0.as_ref() {
        Ok(object) => object,
        Err(error) => {
            unreadable::tell(&context, &error.metadata, &error.error).await;
            return Err(Error::Unreadable(error.error.clone()));
        }
    };
    if let Ok(action) = AssertUnwindSafe(reconcile_one(object, &context)).catch_unwind().await {
        return Ok(action);
    }
    let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    context.metrics.reconcile_error("panicked");
    tracing::error!(job = %key, "a reconcile has panicked, which is a fault of this program: the job is left as it is for {} s, the others go on", SET_ASIDE.0);
    let entry = context.jobs.entry(&key);
    let mut state = entry.lock().await;
    let now = context.clock.now();
    // What was in memory may be half of something; what was learned is in the status.
    *state = JobState { set_aside_until: Some(now + SET_ASIDE), uid: state.uid.clone(), ..JobState::default() };
    // Whatever has failed may fail here again.
    let told =
        AssertUnwindSafe(publish(&context, object, &key, &mut state, facts::panicked(object), now)).catch_unwind();
    if told.await.is_err() {
        tracing::error!(job = %key, "and the status of the job cannot say so");
    }
    Ok(Action::requeue(Duration::from_secs_f64(SET_ASIDE.0)))
}

async fn reconcile_one(object: &StreamJob, context: &Context) -> Action {
    let started = context.clock.monotonic();
    let key = JobKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    if object.metadata.deletion_timestamp.is_some() {
        // Owner references take the workers down; what is left of us is what we hold in memory.
        context.signals.forget(&key);
        return Action::await_change();
    }
    let entry = context.jobs.entry(&key);
    let mut state = entry.lock().await;
    let now = context.clock.now();
    if let Some(until) = state.set_aside_until.filter(|until| *until > now) {
        return Action::requeue(Duration::from_secs_f64((until - now).0));
    }
    start_anew_if_replaced(&mut state, object, now);
    let action = if context.excluded.contains(&key.namespace) {
        leave_out(context, object, &key, &mut state, now).await
    } else {
        pass(context, object, &key, &mut state).await
    };
    context.metrics.reconcile((context.clock.monotonic() - started).as_secs_f64());
    state.attempts.next(now).map_or(action, |wait| Action::requeue(wait.min(PERIOD)))
}

/// What there is of it stays as it is; its owner learns why.
async fn leave_out(context: &Context, object: &StreamJob, key: &JobKey, state: &mut JobState, now: Seconds) -> Action {
    context.signals.forget(key);
    let message = format!(
        "Sluice does nothing in the namespace {}: create the StreamJob in another, or have an administrator take this one out of the operator's --exclude-namespaces (excludeNamespaces of its chart)",
        key.namespace
    );
    let trouble = Verdict { reason: reasons::NAMESPACE_EXCLUDED, message };
    let facts =
        Facts { generation: object.metadata.generation, workload_trouble: Some(trouble), ..facts::last_known(object) };
    publish(context, object, key, state, facts, now).await;
    Action::await_change()
}

fn start_anew_if_replaced(state: &mut JobState, object: &StreamJob, now: Seconds) {
    let uid = object.uid().unwrap_or_default();
    if state.uid != uid {
        // What an earlier run of the operator learned is a prior, and what it counted goes on. Nothing else is taken from the status.
        let prior = object.status.as_ref().map(learned::prior).unwrap_or_default();
        let mut memory = Memory::with_prior(prior);
        if let Some(history) = object.status.as_ref().and_then(|status| learned::history(status, now)) {
            memory.recall_history(&history);
        }
        *state = JobState { uid, memory, ..JobState::default() };
    }
}

/// The table of contents.
async fn pass(context: &Context, object: &StreamJob, key: &JobKey, state: &mut JobState) -> Action {
    let now = context.clock.now();
    let prepared = match prepare(object, state) {
        Ok(prepared) => prepared,
        Err(problems) => {
            // The workers go on as they are; nothing is measured for a spec that nobody can read.
            context.signals.forget(key);
            let facts =
                Facts { generation: object.metadata.generation, problems: &problems, ..facts::last_known(object) };
            publish(context, object, key, state, facts, now).await;
            return Action::await_change();
        }
    };

    let job = &prepared.job;
    forget_another_target(context, job, state);

    // Observe.
    let mut trouble = None;
    let seen = match look(context, job, state, now).await {
        Ok(seen) => seen,
        Err(refused) => {
            // Nothing is known of its workers, so nothing is decided.
            let trouble = trouble_of(refused, state);
            if trouble.is_some() {
                let last = facts::last_known(object);
                let unread = "nothing is measured while the target cannot be read".to_owned();
                let facts = Facts {
                    generation: job.generation,
                    settings: Some(&job.settings),
                    workload_trouble: trouble,
                    missing_signal: Some(Verdict { reason: reasons::NO_SIGNAL, message: unread }),
                    is_not_scaled: true,
                    ..last
                };
                publish(context, object, key, state, facts, now).await;
            }
            return Action::requeue(PERIOD);
        }
    };
    let Seen { mut workload, pods } = seen;
    let pods_unknown = pods.is_none();
    let pods = pods.unwrap_or_default();
    context.signals.watch(key, live::watch(job, &pods));
    let samples = context.signals.read(key).unwrap_or_default();
    count_failures(context, state, &samples);

    // Is it ours, and as it should be?
    match ensure::ensure(context, &prepared, state, workload.take(), now).await {
        Ok(ensured) => workload = Some(ensured),
        Err(Refused::Trouble(verdict)) => trouble = Some(verdict),
        Err(Refused::Error(Error::Gone)) => return Action::requeue(PERIOD),
        Err(Refused::Error(_) | Refused::Waits) => {}
    }

    // Decide.
    let desired = workload.as_ref().and_then(|workload| workload.view.desired);
    let before = context.clock.monotonic();
    let refusal = workload.as_ref().map(|workload| state.refusals.look(&workload.view, &pods, now)).unwrap_or_default();
    let counted = workload.as_ref().and_then(|workload| workload.view.counted);
    let wanted = observation::Wanted { desired, granted: refusal.granted, pods_unknown, counted };
    let observation = observation::observation(job, wanted, &pods, &samples, now);
    let decision = sluice_policy::decide(&mut state.memory, &observation, &job.settings);
    context.metrics.decision(decision.action, decision.reason, (context.clock.monotonic() - before).as_secs_f64());
    tracing::debug!(job = %key, desired, decision = decision.desired, reason = decision.reason.as_str(), message = %decision.message, "decided");

    // Apply.
    let mut standing = None;
    let mut changed = None;
    if let (Some(workload), None) = (&workload, &trouble) {
        let plan = Plan { decision: &decision, pods: &pods, partitions: &observation.partitions };
        let scaled = scale::scale(context, job, state, workload, &plan, now).await;
        match scaled {
            Ok(scaled) => {
                standing = Some(scaled.standing);
                changed = scaled.from.and_then(|from| facts::change(from, &decision, now));
            }
            Err(Refused::Trouble(verdict)) => trouble = Some(verdict),
            Err(Refused::Error(_) | Refused::Waits) => {}
        }
    }
    let trouble = trouble.or_else(|| state.attempts.trouble().cloned());
    let recommended = facts::recommendation(job, state, desired, &decision, now);

    // Status.
    let workload = workload.as_ref();
    let look = Look { job, pods: &pods, pods_unknown, workload, samples: &samples, decision: &decision, refusal };
    let facts = Facts {
        workload_trouble: trouble,
        is_not_scaled: workload.is_none(),
        standing,
        changed: changed.or(recommended),
        ..facts::of_look(context, object, state, &look, now)
    };
    context.metrics.job(
        key,
        JobNumbers { target: job.settings.latency.0, replicas: facts.replicas, ready: facts.ready },
        &decision,
    );
    if !facts::unheard(object, job, state, &facts, now) {
        publish(context, object, key, state, facts, now).await;
    }
    Action::requeue(PERIOD)
}

/// Who wrote the number of one workload says nothing of another that `targetRef` names now.
fn forget_another_target(context: &Context, job: &Job, state: &mut JobState) {
    let (resource, name) = live::target(context, job);
    let target = Some((format!("{}/{}", resource.group, resource.kind), name.to_owned()));
    if state.target.is_some() && state.target != target {
        state.attempts.forget_workload();
        state.foreign = ForeignWrites::default();
        state.existing = Existing::default();
        state.refusals = Refusals::default();
        (state.conflict_with, state.last_written) = (None, None);
        (state.taken, state.zero_is_foreign) = (false, false);
    }
    state.target = target;
}

/// The job's workload and its pods: from the caches if the workload is our own.
async fn look(context: &Context, job: &Job, state: &mut JobState, now: Seconds) -> Result<Seen, Refused> {
    if let Target::Owned(owned) = &job.target {
        return Ok(live::owned(context, job, owned.workload.kind));
    }
    if let Some(held) = state.existing.held(job, now) {
        return Ok(held);
    }
    let asked = job.asked("");
    if context.must_wait(&job.key, state, Request::Target, &asked, now) {
        return Err(Refused::Waits);
    }
    let mut existing = std::mem::take(&mut state.existing);
    let looked = existing.look(context, job, now).await;
    state.existing = existing;
    context.note(&job.key, state, Request::Target, asked, looked, now)
}

/// What there is to tell of a request that was not made, or has failed.
fn trouble_of(refused: Refused, state: &JobState) -> Option<Verdict> {
    match refused {
        Refused::Trouble(verdict) => Some(verdict),
        Refused::Error(_) | Refused::Waits => state.attempts.trouble().cloned(),
    }
}

/// The spec, parsed and checked, and what follows from it: again only where the spec is another.
fn prepare(object: &StreamJob, state: &mut JobState) -> Result<Arc<Prepared>, Vec<Problem>> {
    let same = |prepared: &&Arc<Prepared>| {
        let (job, resume) = (&prepared.job, object.annotations().get(RESUME_ANNOTATION));
        job.generation.is_some() && job.generation == object.metadata.generation && job.resume.as_ref() == resume
    };
    if let Some(prepared) = state.prepared.as_ref().filter(same) {
        return Ok(Arc::clone(prepared));
    }
    let prepared = Arc::new(Prepared::of(validate::validate(object)?));
    state.prepared = Some(Arc::clone(&prepared));
    Ok(prepared)
}

/// Each failed attempt of a source is counted once, whoever reads of it how often.
fn count_failures(context: &Context, state: &mut JobState, samples: &JobSamples) {
    for source in &samples.sources {
        let Some(failure) = &source.failure else { continue };
        let last = state.counted_failures.insert(source.name.clone(), failure.at);
        if last != Some(failure.at) {
            context.metrics.source_error(failure.category.as_str());
        }
    }
}
