"""Networks of other frameworks, as functions that JAX can trace."""
