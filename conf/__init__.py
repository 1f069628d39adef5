"""The configuration, a package so that Hydra finds it from wherever it is installed."""
