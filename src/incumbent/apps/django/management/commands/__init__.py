"""One module for each command of `manage.py`, named as the command is."""
