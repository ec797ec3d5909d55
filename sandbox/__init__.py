"""A real Kubernetes cluster on one machine: starts its programs, and takes everything away again."""
