"""The near-real-time service: watch an archive, infer, release, warn, and serve what is known."""
