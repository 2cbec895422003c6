//! The controller's per-node enrolment stream, as its client.
