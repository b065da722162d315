"""The command line: options, settings of the release, errors in one line."""
