//! What the suites on namespaces share: the cast of pods and the checks on them.
