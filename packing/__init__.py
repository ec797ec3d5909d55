"""Decides where GPU work runs: static tables, small mutable usage, `place()` over both. Pure: values in, values out."""
