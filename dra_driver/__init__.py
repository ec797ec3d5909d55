"""The node driver: publishes a node's GPUs as DRA devices, whole, partitioned by MIG or shared."""
