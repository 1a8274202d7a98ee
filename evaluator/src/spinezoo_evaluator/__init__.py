"""SpineZoo's evaluator: fusion and metrics as a service, the benchmark and its reports."""
