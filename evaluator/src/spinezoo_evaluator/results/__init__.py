"""What is kept of a run, film by film, and how it is counted."""
