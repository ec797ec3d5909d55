"""Decides where GPU work runs: static tables, small mutable usage, and `place()` over both. Pure: values in, values out."""
