"""Verbs of the command line that have a file of their own. Each adds its arguments and runs."""
