"""How far measures are off the truth: on phantoms in full, on films with corner truth in part."""
