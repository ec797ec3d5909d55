"""What NVML says of broken GPUs, and what follows from it: taints on devices, and their health for the kubelet."""
