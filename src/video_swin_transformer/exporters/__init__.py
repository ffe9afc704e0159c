"""The network as a traced program and as a file of each export format, with its sidecar."""
