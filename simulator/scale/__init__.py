"""How decisions grow with the cluster: time and memory at a thousand to a hundred thousand nodes."""
