"""A Django project: every worker answers, and one of them counts."""
