"""Claims on devices as Kubernetes defines them (resource.k8s.io/v1), resolved: what may be allocated, and which."""
