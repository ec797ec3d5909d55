"""Readers: files a person wrote or recorded, in; checked domain values, or every fault found, out."""
