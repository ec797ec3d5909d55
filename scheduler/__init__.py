"""The scheduler extender: decides node and devices for pods, through a kube-scheduler of its own."""
