"""Our scheduler and the default one side by side, on one real control plane."""
