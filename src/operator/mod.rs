//! The Kubernetes edge: observe -> validate -> decide -> build -> apply -> status.
