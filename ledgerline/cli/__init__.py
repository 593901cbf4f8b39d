"""The command line: ``app`` is the entry, every other module holds one group of commands."""
