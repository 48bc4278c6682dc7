"""The package in which Django looks for this application's management commands."""
