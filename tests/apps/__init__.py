"""Work in applications: real servers, driven over HTTP."""
