//! The state of a pod's containers: written by their tasks, read for the pod's status.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod};
use tokio::sync::watch;

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunEnd {
    pub(super) code: i32,
    pub(super) reason: String,
    pub(super) message: String,
    /// The start time, as `metav1.Time` is written; empty if the run never started.
    pub(super) started: String,
    pub(super) finished: String,
    pub(super) id: String,
}

impl RunEnd {
    /// Returns the end of a run whose end was not observed, as the kubelet writes it.
    pub(super) fn unobserved(now: &str) -> Self {
        Self {
            code: 137,
            reason: "ContainerStatusUnknown".to_owned(),
            message: "The container could not be located when the pod was terminated".to_owned(),
            started: String::new(),
            finished: now.to_owned(),
            id: String::new(),
        }
    }
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunState {
    Waiting { reason: String, message: String },
    Running { started: String },
    Terminated(RunEnd),
}

/// The state of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerRecord {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) state: RunState,
    /// The end of the run before this one.
    pub(super) last: Option<RunEnd>,
    pub(super) restarts: i32,
    pub(super) ready: bool,
    pub(super) started: bool,
    pub(super) id: String,
    /// The end of a run that was under way when the pod was taken over from an earlier node.
    pub(super) found: Option<RunEnd>,
}

/// All containers of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Board {
    pub(super) init: Vec<ContainerRecord>,
    pub(super) containers: Vec<ContainerRecord>,
    /// Whether the pod's address and volumes are ready.
    pub(super) set_up: bool,
}

impl Board {
    /// Creates the board of a pod that is taken over. None of its processes runs, even if its status reports that they
    /// do.
    pub(super) fn new(pod: &Pod, now: &str) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let waiting = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        let all = |containers: &[Container], statuses: &[ContainerStatus], reason: &str| {
            let one = |container: &Container| {
                let status = statuses.iter().find(|status| status.name == container.name);
                ContainerRecord::new(container, status, reason, now)
            };
            containers.iter().map(one).collect()
        };
        Self {
            containers: all(&spec.containers, &status.container_statuses.unwrap_or_default(), waiting),
            init: all(&init, &status.init_container_statuses.unwrap_or_default(), "PodInitializing"),
            set_up: false,
        }
    }
}

impl ContainerRecord {
    fn new(container: &Container, status: Option<&ContainerStatus>, reason: &str, now: &str) -> Self {
        let end_of = |state: Option<&ContainerState>| {
            let ended = state?.terminated.as_ref()?;
            let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
                time.as_ref().map(|time| time.0.to_string()).unwrap_or_default()
            };
            Some(RunEnd {
                code: ended.exit_code,
                reason: ended.reason.clone().unwrap_or_default(),
                message: ended.message.clone().unwrap_or_default(),
                started: time(&ended.started_at),
                finished: time(&ended.finished_at),
                id: ended.container_id.clone().unwrap_or_default(),
            })
        };
        let state = status.and_then(|status| status.state.as_ref());
        let ran = state.is_some_and(|state| state.running.is_some());
        let last = status.and_then(|status| end_of(status.last_state.as_ref()));
        let waiting_after_an_end = state.is_some_and(|state| state.waiting.is_some()) && last.is_some();
        let found = match end_of(state) {
            Some(end) => Some(end),
            None if ran => Some(RunEnd::unobserved(now)),
            None if waiting_after_an_end => last.clone(),
            None => None,
        };
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: RunState::Waiting { reason: reason.to_owned(), message: String::new() },
            last: found.clone().or(last),
            restarts: status.map(|status| status.restart_count).unwrap_or_default(),
            ready: false,
            started: false,
            id: String::new(),
            found,
        }
    }
}

/// One container's entry on the board.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) board: watch::Sender<Board>,
    pub(super) init: bool,
    pub(super) index: usize,
}

impl Slot {
    pub(super) fn update(&self, change: impl FnOnce(&mut ContainerRecord)) {
        self.board.send_modify(|board| {
            let list = if self.init { &mut board.init } else { &mut board.containers };
            if let Some(record) = list.get_mut(self.index) {
                change(record);
            }
        });
    }

    pub(super) fn get<T>(&self, read: impl FnOnce(&ContainerRecord) -> T) -> Option<T> {
        let board = self.board.borrow();
        let list = if self.init { &board.init } else { &board.containers };
        list.get(self.index).map(read)
    }
}
