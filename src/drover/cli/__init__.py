"""The command line: one file per verb, each a thin skin over functions that can be imported."""
