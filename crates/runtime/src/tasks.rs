//! Tasks with names and an owner. Nothing is spawned and forgotten: the group learns of every end,
//! panics included, and aborts what is left when it is stopped.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

/// Tasks that belong together.
#[derive(Debug, Default)]
pub struct TaskGroup {
    set: JoinSet<Result<(), Box<str>>>,
    names: HashMap<Id, &'static str>,
}

/// The end of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// Its name.
    pub name: &'static str,
    /// How it ended.
    pub how: Ended,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It returned.
    Finished,
    /// It returned an error.
    Failed(String),
    /// It panicked.
    Panicked(String),
    /// It was aborted.
    Aborted,
}

impl std::fmt::Display for TaskEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.how {
            Ended::Finished => write!(f, "{} ended", self.name),
            Ended::Failed(error) => write!(f, "{} failed: {error}", self.name),
            Ended::Panicked(message) => write!(f, "{} panicked: {message}", self.name),
            Ended::Aborted => write!(f, "{} was stopped", self.name),
        }
    }
}

impl TaskGroup {
    /// Spawns a task on the current runtime.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_fallible(name, async move {
            task.await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Spawns a task that may fail.
    pub fn spawn_fallible<E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let task = async move { task.await.map_err(|e| e.to_string().into_boxed_str()) };
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// How many still run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Waits for the next end; `None` when none runs.
    pub async fn next_end(&mut self) -> Option<TaskEnd> {
        let end = self.set.join_next_with_id().await?;
        let id = match &end {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let name = self.names.remove(&id).unwrap_or("task");
        let how = match end {
            Ok((_, Ok(()))) => Ended::Finished,
            Ok((_, Err(error))) => Ended::Failed(error.into()),
            Err(error) => how_it_broke(error),
        };
        Some(TaskEnd { name, how })
    }

    /// Aborts what runs and waits for the ends.
    pub async fn stop(mut self) {
        self.set.abort_all();
        while let Some(end) = self.next_end().await {
            if let Ended::Panicked(_) = end.how {
                tracing::error!("{end}");
            }
        }
    }
}

fn how_it_broke(error: JoinError) -> Ended {
    if error.is_cancelled() {
        return Ended::Aborted;
    }
    let payload = error.into_panic();
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    Ended::Panicked(text.unwrap_or_else(|| "unknown".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_end_is_told_with_its_name() {
        let mut group = TaskGroup::default();
        group.spawn("good", async {});
        group.spawn_fallible("bad", async { Err("no route") });
        group.spawn("worse", async { panic!("bug") });
        let mut ends = Vec::new();
        while let Some(end) = group.next_end().await {
            ends.push(end.to_string());
        }
        ends.sort();
        assert_eq!(
            ends,
            ["bad failed: no route", "good ended", "worse panicked: bug"]
        );
    }

    #[tokio::test]
    async fn stopping_ends_what_would_run_for_ever() {
        let mut group = TaskGroup::default();
        group.spawn("endless", std::future::pending());
        group.stop().await;
    }
}
