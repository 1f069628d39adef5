"""How a command is started: config, errors and exit codes, plans, sweeps."""
