"""CDI files: what the container runtime gives to a container whose claim names our devices."""
