"""The C library as a Python object: pynvml's ctypes arguments in, its return codes out."""
