"""Facts about GPUs, links and MIG geometry, and what follows from them. Pure: no state, no clock, no network."""
