"""Faults on purpose: programs that die, freeze and come back, and an API server that misbehaves."""
