"""Opaque configuration of claims and classes for our driver, `gpu.dovetail.dev/v1alpha1`: docs/config.md."""
