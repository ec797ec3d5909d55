"""Access to a Kubernetes cluster: objects in, values of the core out. The only package that talks to an API server."""
