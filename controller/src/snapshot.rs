//! What is in force: the objects that were read, each with its place, as one immutable value.
//! Refuses to know where they came from and what they mean.

use std::sync::Arc;

use serde::Serialize;

use crate::api::meta::{Labels, Object};
use crate::api::{
    AnyObject, AuthorizationPolicy, EndpointSlice, Gateway, GatewayClass, Kind, Namespace, Node,
    PeerAuthentication, Pod, Service, ServiceEntry, WorkloadEntry,
};
use crate::finding::{Finding, Place};

/// Names that hold for the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeshSettings {
    /// Cluster, the first part of every workload's uid.
    pub cluster: String,
    /// Trust domain of every identity.
    pub trust_domain: String,
    /// Suffix of service host names.
    pub cluster_domain: String,
    /// Namespace whose policies apply everywhere.
    pub root_namespace: String,
    /// Network of workloads that name none.
    pub network: String,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            cluster: String::from("Kubernetes"),
            trust_domain: String::from("cluster.local"),
            cluster_domain: String::from("cluster.local"),
            root_namespace: String::from("istio-system"),
            network: String::new(),
        }
    }
}

/// An object and its place.
#[derive(Debug)]
pub struct Entry<T> {
    /// The object.
    pub object: Arc<T>,
    /// Where it was read.
    pub place: Place,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            object: Arc::clone(&self.object),
            place: self.place.clone(),
        }
    }
}

impl<T> std::ops::Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

/// A policy that could not be understood: what it was meant for is denied.
#[derive(Clone, Debug)]
pub struct RefusedPolicy {
    /// AuthorizationPolicy or PeerAuthentication.
    pub kind: Kind,
    /// Its namespace, as far as it could be read.
    pub namespace: String,
    /// Its name, as far as it could be read.
    pub name: String,
    /// The labels it selects, where they could be read; `None` means its whole namespace.
    pub selector: Option<Labels>,
    /// Services it is attached to.
    pub services: Vec<String>,
    /// Why.
    pub reason: Arc<str>,
    /// Where.
    pub place: Place,
}

macro_rules! collections {
    ($($field:ident: $kind:ident),+ $(,)?) => {
        /// Everything that was read, in the order of files and documents.
        #[derive(Clone, Debug, Default)]
        #[expect(missing_docs, reason = "one collection per kind")]
        pub struct Snapshot {
            pub mesh: Arc<MeshSettings>,
            $(pub $field: Vec<Entry<$kind>>,)+
            /// Policies whose targets are denied.
            pub refused_policies: Vec<RefusedPolicy>,
            /// What was found wrong while reading.
            pub findings: Vec<Finding>,
            /// Documents that are not the mesh's business.
            pub foreign: usize,
        }

        impl Snapshot {
            /// Adds an object.
            pub fn push(&mut self, object: AnyObject, place: Place) {
                match object {
                    $(AnyObject::$kind(object) => self.$field.push(Entry { object, place }),)+
                }
            }

            /// Every object: kind, namespace, name and place.
            pub fn objects(&self) -> impl Iterator<Item = (Kind, &str, &str, &Place)> {
                std::iter::empty()
                    $(.chain(self.$field.iter().map(|entry| {
                        let meta = entry.object.meta();
                        (Kind::$kind, meta.namespace.as_str(), meta.name.as_str(), &entry.place)
                    })))+
            }
        }
    };
}

collections! {
    namespaces: Namespace,
    nodes: Node,
    pods: Pod,
    services: Service,
    slices: EndpointSlice,
    service_entries: ServiceEntry,
    workload_entries: WorkloadEntry,
    authorization_policies: AuthorizationPolicy,
    peer_authentications: PeerAuthentication,
    gateways: Gateway,
    gateway_classes: GatewayClass,
}
