"""The management server: what the CLI does, through REST, for an organisation; and it never forgets."""
