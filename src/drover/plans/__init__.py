"""Plans: read from files, resolved against a site, put in order."""
