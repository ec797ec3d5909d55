"""The kubelet's side of the driver: gRPC in, one result for each claim out."""
