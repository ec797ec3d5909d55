"""Stand-ins for NVIDIA's programs: they ask and change the twin, and refuse what the real ones refuse."""
