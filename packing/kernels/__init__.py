"""Compiled loops over plain integer arrays, one question each; `packing.reference` answers the same in plain Python."""
