"""GPUs through NVML: `api` says what the driver asks of them, `binding` asks nvidia-ml-py. No other imports pynvml."""
