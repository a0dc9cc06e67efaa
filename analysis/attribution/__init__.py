"""Who writes what: scores, peaks and texts taken apart into the heads, neurons and biases that write the stream."""
