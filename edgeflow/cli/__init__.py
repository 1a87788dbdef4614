"""The command line: one thin file a command. Data goes to stdout, everything else to stderr."""
