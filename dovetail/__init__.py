"""The command line: a thin front door that decodes input, calls the planner and prints."""

__version__ = "0.1.0"
