"""A migration's life: check, prepare, replicate, gate, cut over, verify, finish."""
