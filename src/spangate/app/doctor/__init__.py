"""`spangate doctor`: walks the chain from a workload to its data, and says of each link what is wrong."""
