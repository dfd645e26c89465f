"""The base of every error that a user can cause and mend."""


class LabError(Exception):
    """Its message names the thing, the value and the remedy; the command line prints it without a traceback."""
