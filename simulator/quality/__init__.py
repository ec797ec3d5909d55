"""Benchmarks of placement quality: which links multi-GPU jobs get (L), and how full MIG GPUs become (M1 to M3).

docs/benchmarks.md says what each measures. Every allocator, ours or a peer, sees the same arrivals and is judged by the
same code; peers are comparators, not policies of the product.
"""
